/** The listener with TLS on real sockets: certificates that change or cannot be used, and handshakes that stall. */
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { beforeAll, describe, expect, it } from "vitest";
import { type ListenOptions, listen } from "../../src/net/listener.ts";
import { until } from "../proxy/harness.ts";
import { VirtualClock } from "../support/virtual-clock.ts";
import { CertificateFiles, makePair, type Pair } from "./certificate-files.ts";
import { dial, dialTls, greet, reasonOf } from "./listener-sockets.ts";

let first: Pair;
let second: Pair;
beforeAll(async () => {
  first = await makePair("first");
  second = await makePair("second");
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
