/** The listener on real sockets: plain and TLS, certificates that change, handshakes that stall, and what it leaves behind. */
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { type TLSSocket, connect as tlsConnect } from "node:tls";
import { beforeAll, describe, expect, it } from "vitest";
import { Failed } from "../../src/failed.ts";
import { parseAddress } from "../../src/net/address.ts";
import { type Listener, type ListenOptions, listen } from "../../src/net/listener.ts";
import { until } from "../proxy/harness.ts";
import { VirtualClock } from "../support/virtual-clock.ts";
import { CertificateFiles, makePair, type Pair } from "./certificate-files.ts";

const greet = (socket: Socket) => {
  socket.on("end", () => socket.end());
  socket.on("data", (chunk) => socket.write(`echo ${chunk}`));
  socket.write("hello");
};

const portOf = ({ address }: Listener): number => Number(address.slice(address.lastIndexOf(":") + 1));

function dial(listener: Listener): Socket & { seen?: string } {
  const socket: Socket & { seen?: string } = connect({
    port: portOf(listener),
    host: "127.0.0.1",
    allowHalfOpen: true,
  });
  keep(socket);
  return socket;
}

function dialTls(listener: Listener, options: object = {}): TLSSocket & { seen?: string } {
  const socket: TLSSocket & { seen?: string } = tlsConnect({
    port: portOf(listener),
    host: "127.0.0.1",
    rejectUnauthorized: false,
    ...options,
  });
  keep(socket);
  return socket;
}

function keep(socket: Socket & { seen?: string }): void {
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    socket.seen = (socket.seen ?? "") + String(chunk);
  });
}

const reasonOf = async (listening: Promise<Listener>): Promise<string> => {
  try {
    await using _unexpected = await listening;
  } catch (error) {
    if (error instanceof Failed) return error.failure.reason;
    throw error;
  }
  return expect.fail("it listens");
};

let first: Pair;
let second: Pair;
beforeAll(async () => {
  first = await makePair("first");
  second = await makePair("second");
});

describe("a listener", () => {
  it("says which port it took, hands sockets on with half-close kept, and counts them", async () => {
    await using listener = await listen({ address: "127.0.0.1:0", onSocket: greet });
    expect(listener.address).toMatch(/^127\.0\.0\.1:[1-9]\d*$/);
    const client = dial(listener);
    await until(() => client.seen === "hello", "it greets");
    expect(listener.connections).toBe(1);
    client.end("bye");
    await until(() => client.seen === "helloecho bye", "it answers after our end");
    await until(() => listener.connections === 0, "it forgets the socket");
  });

  it.each([":0", "[::1]:0", "localhost:0"])("takes the address %s", async (address) => {
    await using listener = await listen({ address, onSocket: greet });
    expect(portOf(listener)).toBeGreaterThan(0);
    if (address.startsWith("[")) expect(listener.address).toMatch(/^\[::1\]:\d+$/);
  });

  it("accepts nothing after close, while open sockets live on", async () => {
    await using listener = await listen({ address: "127.0.0.1:0", onSocket: greet });
    const client = dial(listener);
    await until(() => client.seen === "hello", "it greets");
    listener.close();
    const late = dial(listener);
    await until(() => late.closed, "it is refused");
    expect(late.seen).toBeUndefined();
    client.write("still");
    await until(() => client.seen === "helloecho still", "the old one is served");
    client.end();
  });

  it("leaves no socket behind when it is disposed", async () => {
    const listener = await listen({ address: "127.0.0.1:0", onSocket: () => {} });
    const client = dial(listener);
    await until(() => listener.connections === 1, "it is accepted");
    await listener[Symbol.asyncDispose]();
    expect(listener.connections).toBe(0);
    await until(() => client.closed || client.readableEnded, "the client sees it");
    client.destroy();
  });

  it("drops a socket that its receiver cannot serve, and goes on", async () => {
    let calls = 0;
    const warnings: string[] = [];
    const onSocket = (socket: Socket) => {
      calls += 1;
      if (calls === 1) throw new Error("cannot");
      greet(socket);
    };
    const log = { info() {}, warn: (text: string) => void warnings.push(text) };
    await using listener = await listen({ name: "api", address: "127.0.0.1:0", onSocket, log });
    const dropped = dial(listener);
    await until(() => dropped.closed || dropped.readableEnded, "the first is dropped");
    const served = dial(listener);
    await until(() => served.seen === "hello", "the second is served");
    expect(warnings).toEqual([expect.stringContaining("the listener api dropped a socket")]);
    dropped.destroy();
    served.destroy();
  });

  it("says what to do when the port is taken", async () => {
    await using listener = await listen({ address: "127.0.0.1:0", onSocket: greet });
    const reason = await reasonOf(listen({ name: "agent", address: listener.address, onSocket: greet }));
    expect(reason).toContain(`the listener agent cannot listen on ${listener.address}`);
    expect(reason).toContain("another process has that port");
  });

  it("shares its port when asked to", async () => {
    await using one = await listen({ address: "127.0.0.1:0", onSocket: greet, reusePort: true });
    await using two = await listen({ address: one.address, onSocket: greet, reusePort: true });
    expect(two.address).toBe(one.address);
  });

  it.each(["8150", "host", "host:", "host:99999", "::1:80", "a b:1", "host:1x"])(
    "refuses the address %s",
    (address) => {
      expect(() => parseAddress(address)).toThrow(Failed);
    },
  );
});

describe("a listener with a limit of handshakes", () => {
  it("lets a second's worth in at once, then one by one, and refuses who would wait too long", async () => {
    const clock = new VirtualClock(10_000);
    let served = 0;
    const onSocket = () => {
      served += 1;
    };
    await using listener = await listen({ address: "127.0.0.1:0", onSocket, clock, maxHandshakesPerSecond: 2 });
    const clients = Array.from({ length: 9 }, () => dial(listener));
    await until(() => clients.filter((client) => client.closed).length === 2, "two are refused");
    expect(served).toBe(2);
    expect(listener.connections).toBe(7);
    clock.advance(500);
    expect(served).toBe(3);
    clock.advance(1_500);
    expect(served).toBe(6);
    for (const client of clients) client.destroy();
  });

  it("forgets who waits when it is disposed", async () => {
    const clock = new VirtualClock();
    const listener = await listen({ address: "127.0.0.1:0", onSocket: () => {}, clock, maxHandshakesPerSecond: 1 });
    const clients = [dial(listener), dial(listener)];
    await until(() => clock.pending === 1, "one waits");
    await listener[Symbol.asyncDispose]();
    expect(clock.pending).toBe(0);
    for (const client of clients) client.destroy();
  });
});

describe("a TLS listener", () => {
  const tlsOptions = (tls: CertificateFiles, more: Partial<ListenOptions> = {}): ListenOptions => ({
    address: "127.0.0.1:0",
    tls: { certificateFile: tls.certificateFile, keyFile: tls.keyFile },
    onSocket: greet,
    ...more,
  });
  const nameOf = (socket: TLSSocket) => socket.getPeerCertificate().subject?.CN;

  it("agrees on a protocol, and hands the socket on only after the handshake", async () => {
    using files = new CertificateFiles().write(first);
    const alpns: string[] = [];
    const onSocket = (socket: Socket, alpn: string) => {
      alpns.push(alpn);
      greet(socket);
    };
    await using listener = await listen(tlsOptions(files, { onSocket, alpnProtocols: ["h2", "http/1.1"] }));
    const client = dialTls(listener, { ALPNProtocols: ["http/1.1"] });
    await until(() => client.seen === "hello", "it greets");
    expect(alpns).toEqual(["http/1.1"]);
    expect(listener.connections).toBe(1);
    client.end();
    await until(() => listener.connections === 0, "it forgets the socket");
  });

  it("refuses TLS 1.1 and what is no TLS, and goes on", async () => {
    using files = new CertificateFiles().write(first);
    let served = 0;
    const onSocket = () => {
      served += 1;
    };
    await using listener = await listen(tlsOptions(files, { onSocket }));
    const old = dialTls(listener, { minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" });
    const plain = dial(listener);
    plain.write("GET / HTTP/1.1\r\n\r\n");
    await until(() => old.closed && (plain.closed || plain.readableEnded), "both are refused");
    expect(served).toBe(0);
    plain.destroy();
    await until(() => listener.connections === 0, "neither is kept");
  });

  it("forgets at once who leaves during the handshake", async () => {
    using files = new CertificateFiles().write(first);
    await using listener = await listen(tlsOptions(files, { handshakeTimeout: 60_000 }));
    for (const leave of [(socket: Socket) => socket.end(), (socket: Socket) => socket.destroy()]) {
      const silent = dial(listener);
      await until(() => listener.connections === 1, "it is accepted");
      leave(silent);
      await until(() => listener.connections === 0, "it is forgotten");
      silent.destroy();
    }
  });

  it("leaves what it hands on half-open", async () => {
    using files = new CertificateFiles().write(first);
    const onSocket = (socket: Socket) => {
      socket.on("end", () => setImmediate(() => socket.end("after your end")));
      socket.resume();
    };
    await using listener = await listen(tlsOptions(files, { onSocket }));
    const client = dialTls(listener, { allowHalfOpen: true });
    await once(client, "secureConnect");
    client.end();
    await until(() => client.seen === "after your end", "it still answers");
    await until(() => listener.connections === 0, "it forgets the socket");
  });

  it("ends a handshake that stalls", async () => {
    using files = new CertificateFiles().write(first);
    await using listener = await listen(tlsOptions(files, { handshakeTimeout: 50 }));
    const silent = dial(listener);
    await until(() => listener.connections === 1, "it is accepted");
    await until(() => listener.connections === 0, "it is ended");
    silent.destroy();
  });

  it("asks for a client certificate where a client CA is set", async () => {
    using files = new CertificateFiles().write(first);
    writeFileSync(files.clientCaFile, second.cert);
    const { certificateFile, keyFile, clientCaFile } = files;
    await using listener = await listen(tlsOptions(files, { tls: { certificateFile, keyFile, clientCaFile } }));
    const stranger = dialTls(listener);
    await until(() => stranger.closed, "who shows none is refused");
    expect(stranger.seen).toBeUndefined();
    const known = dialTls(listener, { cert: second.cert, key: second.key });
    await until(() => known.seen === "hello", "who shows one is served");
    known.destroy();
  });

  it("uses new files for new sockets and keeps the old sockets; keeps the old files while the new ones are bad", async () => {
    using files = new CertificateFiles().write(first);
    const clock = new VirtualClock();
    const said: string[] = [];
    const log = { info: (text: string) => void said.push(text), warn: (text: string) => void said.push(text) };
    await using listener = await listen(tlsOptions(files, { clock, log, reloadEvery: 1_000 }));
    const before = dialTls(listener);
    await until(() => before.seen === "hello", "the first is served");
    expect(nameOf(before)).toBe("first");
    const look = async () => {
      clock.advance(1_000);
      await until(() => clock.pending === 1, "the files were looked at");
    };

    writeFileSync(files.certificateFile, second.cert); // without its key
    await look();
    await look();
    expect(said).toEqual([
      expect.stringMatching(/keeps its old certificate: .*tls\.crt and .*tls\.key do not belong together/),
    ]);
    const during = dialTls(listener);
    await until(() => during.seen === "hello", "the old certificate still serves");
    expect(nameOf(during)).toBe("first");

    writeFileSync(files.keyFile, second.key);
    await look();
    expect(said[1]).toContain("uses the new certificate");
    const after = dialTls(listener);
    await until(() => after.seen === "hello", "the new certificate serves");
    expect(nameOf(after)).toBe("second");
    before.write("x");
    await until(() => before.seen === "helloecho x", "the first socket lives");
    for (const socket of [before, during, after]) socket.destroy();
    await listener[Symbol.asyncDispose]();
    expect(clock.pending).toBe(0);
  });

  it("names the file that cannot be used", async () => {
    using files = new CertificateFiles();
    expect(await reasonOf(listen(tlsOptions(files)))).toMatch(/cannot read the certificate file .*tls\.crt: ENOENT/);
    files.write({ cert: first.cert, key: second.key });
    expect(await reasonOf(listen(tlsOptions(files)))).toMatch(/tls\.crt and the key .*tls\.key do not belong together/);
    files.write({ cert: "no certificate", key: first.key });
    expect(await reasonOf(listen(tlsOptions(files)))).toMatch(/certificate file .*tls\.crt holds no certificate/);
  });
});
