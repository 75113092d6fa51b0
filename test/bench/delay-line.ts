/**
 * A TCP proxy as long as a continent, towards the address of argv: every byte arrives half a round trip (argv, ms) later, in
 * order, and the pipe in between is wider than any window.
 */
import { connect, createServer, type Socket } from "node:net";

const [target = "", roundTrip = "0"] = process.argv.slice(2);
const [host = "", port = ""] = target.split(":");
/** Under way in one direction before the sender is made to wait. */
const MAX_UNDER_WAY = 64 * 1024 * 1024;

function join(from: Socket, to: Socket): void {
  const underWay: Buffer[] = [];
  let bytes = 0;
  from.on("data", (chunk: Buffer) => {
    underWay.push(chunk);
    bytes += chunk.length;
    if (bytes > MAX_UNDER_WAY) from.pause();
    setTimeout(() => {
      const first = underWay.shift();
      if (first) to.write(first, () => passed(first.length));
    }, Number(roundTrip) / 2);
  });
  const passed = (length: number): void => {
    bytes -= length;
    if (bytes <= MAX_UNDER_WAY) from.resume();
  };
  from.on("error", () => {});
  from.once("close", () => to.destroy());
}

const server = createServer({ noDelay: true }, (near) => {
  const far = connect({ host, port: Number(port), noDelay: true });
  join(near, far);
  join(far, near);
});
server.listen({ port: 0, host: "127.0.0.1" }, () => {
  const address = server.address();
  const own = address && typeof address === "object" ? address.port : 0;
  process.stdout.write(`${JSON.stringify({ msg: "listening", address: `127.0.0.1:${own}` })}\n`);
});
process.on("SIGTERM", () => process.exit(0));
