import { describe, expect, it } from "vitest";
import { impersonate } from "../../src/agentk/impersonation.ts";

const alice = { user: "alice", groups: ["devs"], uid: "", extra: [] } as const;

describe("impersonation", () => {
  it("is none where nobody asks for it", () => {
    expect(impersonate(null, null, ["accept", "x"])).toEqual([]);
  });

  it("takes the identity of the agent's kubeconfig for a request that brings none", () => {
    expect(impersonate(null, alice, [])).toEqual(["impersonate-user", "alice", "impersonate-group", "devs"]);
  });

  it("passes the caller's own headers on where nothing else names a user, and no other header", () => {
    const headers = ["accept", "x", "Impersonate-User", "bob", "Impersonate-Extra-A", "1"];
    expect(impersonate(null, null, headers)).toEqual(["Impersonate-User", "bob", "Impersonate-Extra-A", "1"]);
  });

  it.each([
    ["the grant and the kubeconfig", alice, alice, []],
    ["the grant and a header in any case", alice, null, ["iMPersonate-UID", "1"]],
    ["the kubeconfig and a header", null, alice, ["impersonate-user", "bob"]],
  ] as const)("is refused when it nests: %s", (_, as, own, headers) => {
    expect(impersonate(as, own, headers)).toMatchObject({ code: "forbidden" });
  });

  it.each(["system:masters", "system:nodes", "system:serviceaccounts"])("never names the group %s", (group) => {
    expect(impersonate({ ...alice, groups: ["devs", group] }, null, [])).toMatchObject({ code: "forbidden" });
    expect(impersonate(null, null, ["impersonate-user", "bob", "Impersonate-Group", group])).toMatchObject({
      code: "forbidden",
      reason: expect.stringContaining(group),
    });
  });

  it("needs a user", () => {
    expect(impersonate({ ...alice, user: "" }, null, [])).toMatchObject({ code: "forbidden" });
  });

  it("writes names beyond ASCII as the bytes of UTF-8, and extra keys percent-encoded in lower case", () => {
    const as = { user: "zoë", groups: [], uid: "", extra: [["Example.com/Ä", ["é"]]] } as const;
    expect(impersonate(as, null, [])).toEqual([
      "impersonate-user",
      Buffer.from("zoë").toString("latin1"),
      "impersonate-extra-example.com%2F%C3%A4",
      Buffer.from("é").toString("latin1"),
    ]);
  });
});
