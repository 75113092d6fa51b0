/** The ports that workers share: nobody else's when they are fixed, kept until the workers have them when they are not. */
import { describe, expect, it } from "vitest";
import { parseKasConfig } from "../../../src/config/kas.ts";
import { claimPorts } from "../../../src/kas/workers/ports.ts";
import { listen } from "../../../src/net/listener.ts";
import { portOf } from "../../net/listener-sockets.ts";

const sources = { file: "kas.yaml", env: {}, hostname: "kas-0", interfaces: [], readFile: () => "" };
const configOf = (agent: number, kubernetesApi: number) =>
  parseKasConfig(
    `agent:
  listen: { address: "127.0.0.1:${agent}" }
  kubernetes_api: { listen: { address: "127.0.0.1:${kubernetesApi}" } }`,
    sources,
  ).config;

const open = (port: number, reusePort: boolean) =>
  listen({ address: `127.0.0.1:${port}`, reusePort, onSocket: (socket) => void socket.destroy() });

describe("the ports that workers share", () => {
  it("are kept while they are claimed, for those who share them only", async () => {
    const claimed = await claimPorts(configOf(0, 0));
    const { agent = 0, kubernetes_api = 0, api } = claimed.ports;
    expect([agent > 0, kubernetes_api > 0, agent !== kubernetes_api, api]).toEqual([true, true, true, undefined]);
    await expect(open(agent, false)).rejects.toThrow(/another process has that port/);
    await using one = await open(agent, true);
    await using two = await open(agent, true);
    await claimed[Symbol.asyncDispose]();
    expect([portOf(one), portOf(two)]).toEqual([agent, agent]);
    await expect(open(agent, false)).rejects.toThrow(/another process has that port/);
    await using free = await open(kubernetes_api, false);
    expect(portOf(free)).toBe(kubernetes_api);
  });

  it("are refused when they are fixed and others share them already", async () => {
    await using other = await open(0, true);
    const claimed = claimPorts(configOf(portOf(other), 0));
    await expect(claimed).rejects.toThrow(/the listener agent cannot listen on .*another process has that port/);
  });

  it("are refused when two listeners have the same, and free again then", async () => {
    const port = await (async () => {
      await using free = await open(0, false);
      return portOf(free);
    })();
    await expect(claimPorts(configOf(port, port))).rejects.toThrow(/the listener kubernetes_api cannot listen on/);
    await using claimed = await claimPorts(configOf(port, 0));
    await using worker = await open(port, true);
    expect([claimed.ports.agent, portOf(worker)]).toEqual([port, port]);
  });
});
