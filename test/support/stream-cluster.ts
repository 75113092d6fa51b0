/**
 * Several nodes in one process with everything that carries streams: real routing, holders, peer links, ingresses and
 * directories under virtual time. Only sockets (memory carriers) and what agents do are made up.
 */
import { expect } from "vitest";
import type { Millis } from "../../actors/actor.ts";
import { failure } from "../../actors/failure.ts";
import { nameOf } from "../../actors/ids.ts";
import type { MemoryCarrier } from "../../src/link/carriers/memory.ts";
import type { Link } from "../../src/link/link.ts";
import { Cluster, type StartOptions } from "./cluster.ts";
import { Kas } from "./stream-node.ts";
import { type Served, turns } from "./streams.ts";

export class StreamCluster {
  readonly cluster: Cluster;
  readonly nodes: Kas[] = [];
  /** Every stream that an agent was handed, in order. */
  readonly served: Served[] = [];
  readonly carriers: MemoryCarrier[] = [];
  readonly links: Link[] = [];
  agents = 0;

  constructor(seed = 1) {
    this.cluster = new Cluster(seed);
  }

  /** Nodes of these names, joined and linked to each other; one alone has no messenger. */
  static async of(...names: string[]): Promise<[StreamCluster, ...Kas[]]> {
    const cluster = new StreamCluster();
    for (const name of names) cluster.start(name, { alone: names.length === 1 });
    for (const { node } of cluster.nodes) void node.routing.join();
    await cluster.pass(names.length === 1 ? 100 : 3_000);
    return [cluster, ...cluster.nodes];
  }

  start(name: string, options: StartOptions = {}): Kas {
    const kas = new Kas(this, name, options);
    this.nodes.push(kas);
    return kas;
  }

  at(address: string): Kas | undefined {
    return this.nodes.findLast(({ node }) => `${nameOf(node.id)}:8155` === address);
  }

  /** Time passes in steps short enough for links to answer each other. */
  async pass(by: Millis, step = 100): Promise<void> {
    for (let left = by; left > 0; left -= step) {
      this.cluster.advance(Math.min(step, left));
      await turns(8);
    }
  }

  /** Time passes until the condition holds. */
  async until(condition: () => boolean, within: Millis = 30_000): Promise<void> {
    const end = this.cluster.clock.now() + within;
    for (await turns(20); !condition(); await turns(12)) {
      if (this.cluster.clock.now() >= end) throw new Error("the condition never held");
      this.cluster.advance(50);
    }
  }

  /** Requests are over, streams are closed, places were given back, and what was counted open was counted closed. */
  expectQuiet(): void {
    for (const kas of this.nodes.filter(({ node }) => node.alive)) {
      const { meter, inbound, holder, node } = kas;
      expect(meter.closes.length, "streams closed").toBe(meter.opens.length);
      expect(inbound.closed, "inbound closed").toBe(inbound.opened);
      expect(node.routing.counts()).toMatchObject({ requests: 0, parked: 0 });
      for (const { link } of holder.connections()) {
        expect(link.streams).toBe(0);
        expect(link.bufferedBytes).toBe(0);
      }
      for (const [, link] of kas.peers.links()) expect(link.streams).toBe(0);
    }
  }

  /** Ends everything; no timer, carrier or stream may be left. */
  async [Symbol.asyncDispose](): Promise<void> {
    const over = failure("cancelled", "the test is over");
    for (const kas of this.nodes) {
      if (kas.node.alive) await kas.node.routing.leave();
      kas.end(over);
    }
    for (const link of this.links) link.destroy(over);
    await turns(60);
    for (const { meter, node } of this.nodes) {
      expect(meter.closes.length, `streams closed at ${node.id}`).toBe(meter.opens.length);
    }
    expect(this.carriers.filter(({ closed }) => !closed).length, "carriers left").toBe(0);
    this.cluster.advance(1_000); // messages that were on their way
    expect(this.cluster.clock.pending, "timers left").toBe(0);
  }
}
