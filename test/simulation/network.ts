/**
 * The network between simulated nodes: losing, doubling and slow by the seed; for a while cut in two, deaf one way, with
 * silent links, or with a bus that loses everything.
 */
import type { Millis } from "../../actors/actor.ts";
import { type NodeId, nameOf } from "../../actors/ids.ts";
import type { World } from "./world.ts";

/** After a cut views need this long to heal. */
const AFTERMATH: Millis = 12_000;

export class Network {
  quiet = false;
  readonly #world: World;
  readonly #names: readonly string[];
  /** When something was cut, or a node had no bus. */
  readonly #disturbances: { readonly from: Millis; readonly to: Millis }[] = [];
  #side: ReadonlySet<string> = new Set();
  /** `a>b`: nothing from a reaches b. */
  readonly #deaf = new Set<string>();
  /** The same for links alone, and for the bus alone. */
  readonly #mute = new Set<string>();
  readonly #unread = new Set<string>();
  readonly #weather: { readonly drop: number; readonly double: number; readonly slow: number };

  constructor(world: World, names: readonly string[]) {
    this.#world = world;
    this.#names = names;
    this.#weather = { drop: world.dice() * 0.03, double: world.dice() * 0.02, slow: world.dice() * 0.05 };
  }

  /** Does what `from` sends over a link reach `to`? */
  linkOpen(from: NodeId, to: NodeId): boolean {
    return !this.#isDeaf(from, to) && !this.#mute.has(`${nameOf(from)}>${nameOf(to)}`);
  }

  #isDeaf(from: NodeId, to: NodeId): boolean {
    const [a, b] = [nameOf(from), nameOf(to)];
    return this.#side.has(a) !== this.#side.has(b) || this.#deaf.has(`${a}>${b}`);
  }

  /** When the copies of a message arrive; none: it is lost. */
  delays(from: NodeId, to: NodeId): readonly Millis[] {
    const world = this.#world;
    if (this.#isDeaf(from, to) || this.#unread.has(nameOf(from)) || this.#unread.has(nameOf(to))) return [];
    if (this.quiet) return [1 + world.roll(4)];
    const { drop, double, slow } = this.#weather;
    if (world.chance(drop)) return [];
    const delay = () => 1 + world.roll(4) + (world.chance(slow) ? world.roll(900) : 0);
    return world.chance(double) ? [delay(), delay()] : [delay()];
  }

  heal(): void {
    this.#side = new Set();
    this.#deaf.clear();
    this.#mute.clear();
    this.#unread.clear();
    this.quiet = true;
  }

  partition(): void {
    const world = this.#world;
    const side = new Set(this.#names.filter(() => world.chance(0.5)));
    const lasts = 1_000 + world.roll(14_000);
    this.#side = side;
    this.disturbed(lasts);
    world.trace(`partition ${[...side].join()}`);
    world.after(lasts, () => {
      if (this.#side === side) this.#side = new Set();
    });
  }

  /** One direction only: the others hear it, it does not hear one of them. */
  deafen(name: string): void {
    const world = this.#world;
    const from = this.#names[world.roll(this.#names.length)] ?? name;
    const lasts = 6_000 + world.roll(9_000);
    this.disturbed(lasts);
    world.trace(`deafen ${name} to ${from}`);
    this.#deaf.add(`${from}>${name}`);
    world.after(lasts, () => this.#deaf.delete(`${from}>${name}`));
  }

  /** The link between two, one way or both: frames go in and none comes out. */
  silence(name: string, both: boolean): void {
    const world = this.#world;
    const other = this.#names[world.roll(this.#names.length)] ?? name;
    const lasts = 1_000 + world.roll(9_000);
    this.disturbed(lasts);
    world.trace(`silence ${name} ${other} ${both ? "both ways" : "one way"}`);
    const ways = both ? [`${name}>${other}`, `${other}>${name}`] : [`${name}>${other}`];
    for (const way of ways) this.#mute.add(way);
    world.after(lasts, () => {
      for (const way of ways) this.#mute.delete(way);
    });
  }

  /** The node's client is connected to a bus that loses all it sends and all it should get. */
  unread(name: string, lasts: Millis): void {
    this.#unread.add(name);
    this.disturbed(lasts);
    this.#world.after(lasts, () => this.#unread.delete(name));
  }

  disturbed(lasts: Millis): void {
    const from = this.#world.now();
    this.#disturbances.push({ from, to: from + lasts });
  }

  /** Had every node the time to hear of what happened since `from`? */
  isCalm(from: Millis, to: Millis): boolean {
    return !this.#disturbances.some((d) => d.from <= to && d.to + AFTERMATH >= from);
  }
}
