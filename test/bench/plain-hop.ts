/** What a routed request is measured against: one hop of `node:http` and `undici.request`, piped, towards the address of argv. */
import { createServer } from "node:http";
import { Pool } from "undici";

const pool = new Pool(`http://${process.argv[2] ?? ""}`);
const BODILESS = new Set(["GET", "HEAD"]);

const server = createServer((request, response) => {
  const { method = "GET", url = "/", headers } = request;
  const { host: _, connection: __, "transfer-encoding": ___, ...rest } = headers;
  const call = pool.request({ method, path: url, headers: rest, body: BODILESS.has(method) ? null : request });
  call.then(
    (answer) => {
      const { connection: _, "keep-alive": __, "transfer-encoding": ___, ...kept } = answer.headers;
      response.writeHead(answer.statusCode, kept);
      answer.body.on("error", () => response.destroy());
      answer.body.pipe(response);
      response.on("close", () => answer.body.destroy());
    },
    (error: Error) => response.writeHead(502).end(error.message),
  );
});
server.keepAliveTimeout = 120_000;
server.listen({ port: 0, host: "127.0.0.1", backlog: 1024 }, () => {
  const address = server.address();
  const port = address && typeof address === "object" ? address.port : 0;
  process.stdout.write(`${JSON.stringify({ msg: "listening", address: `127.0.0.1:${port}` })}\n`);
});
process.on("SIGTERM", () => process.exit(0));
