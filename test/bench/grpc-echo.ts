/** A bare grpc-js server: a unary echo and a call that is only held, to compare with. Its codecs pass bytes through. */
import { Server, ServerCredentials, type ServiceDefinition } from "@grpc/grpc-js";

const identity = (bytes: Buffer): Buffer => bytes;
const codecs = {
  requestSerialize: identity,
  requestDeserialize: identity,
  responseSerialize: identity,
  responseDeserialize: identity,
};
const definition: ServiceDefinition = {
  echo: { path: "/bench.Echo/Echo", requestStream: false, responseStream: false, ...codecs },
  echoStream: { path: "/bench.Echo/EchoStream", requestStream: true, responseStream: true, ...codecs },
  hold: { path: "/bench.Echo/Hold", requestStream: true, responseStream: true, ...codecs },
};

const server = new Server({ "grpc.enable_channelz": 0 });
type Call = { on(event: string, run: (bytes: Buffer) => void): void; write(bytes: Buffer): void; end(): void };
const hold = (call: Call): void => {
  call.on("data", (bytes) => call.write(bytes));
  call.on("error", () => {});
};
server.addService(definition, {
  echo: (call: { request: Buffer }, done: (error: null, answer: Buffer) => void) => done(null, call.request),
  hold,
  echoStream: (call: Call) => {
    hold(call);
    call.on("end", () => call.end());
  },
});
server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  process.stdout.write(`${JSON.stringify({ msg: "listening", address: `127.0.0.1:${port}` })}\n`);
});
process.on("SIGTERM", () => process.exit(0));
