/**
 * The byte stream inside a WebSocket: binary messages one after the other, their boundaries without meaning. Neither side is
 * read faster than its reader takes, nor written faster than its socket does. To be made before the WebSocket is open, or in the
 * turn in which it opens: what comes with the handshake would be lost.
 */
import { Duplex } from "node:stream";
import type { RawData, WebSocket } from "ws";

// A stream like this that fails with an error while HTTP/2 writes to it may leave a session that never closes (seen on
// Node 24.21, five times in a hundred): whatever goes wrong is told by "close" alone.

/** The subprotocol that says what is inside. */
export const WS_TUNNEL = "ws-tunnel";
/** An HTTP/2 implementation writes a few frames of 16 KiB at once. */
export const MAX_WS_MESSAGE_BYTES = 1024 * 1024;

export function websocketStream(ws: WebSocket): Duplex {
  const stream = new Duplex({
    allowHalfOpen: false,
    read() {
      if (ws.isPaused) ws.resume();
    },
    write(chunk: Buffer, _encoding, done) {
      ws.send(chunk, done);
    },
    writev(chunks, done) {
      ws.send(Buffer.concat(chunks.map(({ chunk }): Buffer => chunk)), done);
    },
    final(done) {
      ws.close(1000);
      done();
    },
    destroy(_error, done) {
      ws.terminate();
      done(null);
    },
  });
  ws.on("error", ignore);
  ws.on("message", (message, isBinary) => {
    if (!isBinary) ws.close(1003, "binary messages only");
    else if (!stream.push(bytesOf(message))) ws.pause();
  });
  ws.once("close", () => {
    stream.push(null);
    stream.resume();
  });
  return stream;
}

function ignore(): void {}

function bytesOf(message: RawData): Buffer {
  if (Buffer.isBuffer(message)) return message;
  return Array.isArray(message) ? Buffer.concat(message) : Buffer.from(message);
}
