/** Looks at the first bytes of a socket and puts them back, so that whoever takes it next reads them again. */
import type { Socket } from "node:net";

/** `seen` gets `count` bytes, in the turn in which the socket must be handed on; it is not called when the socket ends first. */
export function firstBytes(socket: Socket, count: number, seen: (bytes: Buffer) => void): void {
  let held: Buffer = Buffer.alloc(0);
  const look = (): void => {
    const chunk: Buffer | null = socket.read();
    if (chunk === null) return;
    held = Buffer.concat([held, chunk]);
    if (held.length < count) return;
    socket.off("readable", look);
    socket.off("end", ended);
    socket.unshift(held);
    seen(held.subarray(0, count));
  };
  const ended = (): void => void socket.destroy();
  socket.on("readable", look);
  socket.once("end", ended);
}
