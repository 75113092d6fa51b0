/** Requests that the executor refuses before anything is sent: services not named, bad paths, two users at once. */
import { afterEach, describe, expect, it } from "vitest";
import { apiServer } from "./api-server.ts";
import { Caller, executorTo } from "./caller.ts";
import { labOn } from "./executor-lab.ts";

let stack = new AsyncDisposableStack();
const lab = labOn(() => stack);
afterEach(async () => {
  await stack.disposeAsync();
  stack = new AsyncDisposableStack();
});

describe("what is not allowed", () => {
  it("is a service that the operator did not name", async () => {
    const { executor } = await lab(() => {}, { services: { prometheus: "http://127.0.0.1:1" } });
    const caller = await new Caller(executor.execute, { target: { type: "service", name: "vault" } }).done();
    expect(caller.reset_).toEqual({
      unprocessed: false,
      failure: {
        code: "forbidden",
        reason:
          'this agent does not allow the service "vault": it allows prometheus; start agentk with --service vault=http://host:port to allow it',
      },
    });
  });

  it.each(["http://evil/x", "*", "", "x", "/a b", "/a\nb", "/\u{1F600}"])("is the path %j", async (path) => {
    const { executor, server } = await lab((_, response) => response.end());
    const caller = await new Caller(executor.execute, { path }).done();
    expect(caller.reset_?.failure.code).toBe("invalid");
    expect(server.requests).toEqual([]);
  });

  it.each(["/../x", "/a/%2E%2e/b", "/.", "/a/.%2e"])(
    "is the path %s where the upstream has a base path",
    async (path) => {
      const server = stack.use(await apiServer((_, response) => response.end()));
      const executor = stack.use(executorTo(`${server.url}/clusters/c1/`));
      const caller = await new Caller(executor.execute, { path }).done();
      expect(caller.reset_?.failure.code).toBe("forbidden");
      expect(server.requests).toEqual([]);
    },
  );

  it("is two users at once", async () => {
    const as = { user: "alice", groups: [], uid: "", extra: [] };
    const caller = { kind: "pat", id: "7", as } as const;
    const { executor, server } = await lab((_, response) => response.end());
    const nested = await new Caller(executor.execute, { caller, headers: ["Impersonate-User", "root"] }).done();
    expect(nested.reset_?.failure).toEqual({
      code: "forbidden",
      reason:
        "nested impersonation is not supported: the caller's grant and Impersonate-* headers both name a user; leave one of them out",
    });
    expect(server.requests).toEqual([]);
  });
});
