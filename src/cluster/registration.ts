/**
 * This holder's registrars, one per home, and who waits to be registered. Every channel gets an epoch of its own that is
 * never used again, also after a crash of its registrar. `registered` is called exactly once per connection.
 */
import type { ChannelMessage, Entry, Position } from "../../actors/channel.ts";
import type { ConnectionId, NodeId } from "../../actors/ids.ts";
import {
  createRegistrar,
  type Registrar,
  type RegistrarEffect,
  type RegistrarMessage,
  type RegistrarSettings,
} from "../../actors/registrar.ts";
import { hasSlot, type SlotSet, sameSlots, slotOf } from "../../actors/ring.ts";
import type { Cell } from "../runtime/cell.ts";
import type { System } from "../runtime/system.ts";
import type { Wheel } from "../runtime/wheel.ts";

export type RegistrationOptions = {
  readonly system: System;
  readonly wheel: Wheel;
  readonly settings: RegistrarSettings;
  readonly registeredWithin: number;
  readonly seed: () => number;
  readonly entries: () => Iterable<Entry>;
  readonly send: (home: NodeId, message: ChannelMessage) => void;
  readonly registered: (connection: ConnectionId) => void;
};

type Channel = { readonly slots: SlotSet; readonly cell: Cell<Registrar, RegistrarMessage, RegistrarEffect> };
type Waiting = { readonly homes: Set<NodeId>; timer: Disposable };

export class Registration {
  readonly #options: RegistrationOptions;
  readonly #channels = new Map<NodeId, Channel>();
  readonly #waiting = new Map<ConnectionId, Waiting>();
  #epoch = 0;

  constructor(options: RegistrationOptions) {
    this.#options = options;
  }

  /** The slots of each home now; a member that is no home any more keeps what it has until it is gone. */
  follow(homes: ReadonlyMap<NodeId, SlotSet>, isMember: (node: NodeId) => boolean): void {
    for (const home of [...this.#channels.keys()]) if (!isMember(home)) this.#close(home);
    for (const [home, slots] of homes) {
      const known = this.#channels.get(home);
      if (known && sameSlots(known.slots, slots)) continue;
      if (known) {
        this.#channels.set(home, { slots, cell: known.cell });
        this.#assign(known.cell, slots);
      } else this.#open(home, slots);
    }
  }

  put(entry: Entry): void {
    const homes = new Set<NodeId>();
    for (const [home, { slots, cell }] of this.#channels) {
      if (!hasSlot(slots, slotOf(entry.agent))) continue;
      homes.add(home);
      cell.tell({ type: "put", entry });
    }
    if (entry.draining) return;
    const { wheel, registeredWithin } = this.#options;
    const within = homes.size === 0 ? 0 : registeredWithin;
    const timer = wheel.schedule(wheel.now() + within, () => this.#registered(entry.connection));
    this.#waiting.set(entry.connection, { homes, timer });
  }

  remove(entry: Entry): void {
    this.#waiting.get(entry.connection)?.timer[Symbol.dispose]();
    this.#waiting.delete(entry.connection);
    for (const { slots, cell } of this.#channels.values()) {
      if (hasSlot(slots, slotOf(entry.agent))) cell.tell({ type: "remove", connection: entry.connection });
    }
  }

  acked(home: NodeId, position: Position): void {
    this.#channels.get(home)?.cell.tell({ type: "acked", position });
  }

  wanted(home: NodeId): void {
    this.#channels.get(home)?.cell.tell({ type: "wanted" });
  }

  #open(home: NodeId, slots: SlotSet): void {
    const { system, settings, seed, send } = this.#options;
    const cell = system.spawn(`registrar/${home}`, createRegistrar(settings, ++this.#epoch, seed()), {
      perform: (effect) => {
        if (effect.type === "send") send(home, effect.message);
        else this.#knows(home, effect.connection);
      },
      respawned: () => this.#open(home, this.#channels.get(home)?.slots ?? slots),
    });
    this.#channels.set(home, { slots, cell });
    this.#assign(cell, slots);
  }

  #assign(cell: Channel["cell"], slots: SlotSet): void {
    const entries = [...this.#options.entries()].filter((entry) => hasSlot(slots, slotOf(entry.agent)));
    cell.tell({ type: "assign", slots, entries });
  }

  #close(home: NodeId): void {
    this.#options.system.stop(`registrar/${home}`);
    this.#channels.delete(home);
    for (const connection of [...this.#waiting.keys()]) this.#knows(home, connection);
  }

  #knows(home: NodeId, connection: ConnectionId): void {
    const waiting = this.#waiting.get(connection);
    if (waiting?.homes.delete(home) && waiting.homes.size === 0) this.#registered(connection);
  }

  #registered(connection: ConnectionId): void {
    this.#waiting.get(connection)?.timer[Symbol.dispose]();
    if (this.#waiting.delete(connection)) this.#options.registered(connection);
  }
}
