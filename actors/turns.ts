/**
 * Whose turn it is to send: groups in turn, within a group its streams in turn, a quantum of bytes each.
 * Only those that can send have a seat; seating, leaving and passing on are all O(1). Few empty groups are kept.
 */
export type GroupKey = number | string;

/** What a stream needs to sit in a group's circle. */
export interface Seat<S> {
  before: S | null;
  after: S | null;
  bench: Group<S> | null;
}

export type Group<S> = {
  readonly key: GroupKey;
  readonly of: Turns<S>;
  first: S | null;
  last: S | null;
  before: Group<S> | null;
  after: Group<S> | null;
};

export type Turns<S> = {
  readonly groups: Map<GroupKey, Group<S>>;
  first: Group<S> | null;
  last: Group<S> | null;
};

/** Empty ones among them: most links have few groups, which come and go with every request (`id-table.ts` says why it matters). */
const KEPT_GROUPS = 64;

export const turns = <S>(): Turns<S> => ({ groups: new Map(), first: null, last: null });

type Chain<N> = { first: N | null; last: N | null };

function append<N extends { before: N | null; after: N | null }>(chain: Chain<N>, node: N): void {
  node.before = chain.last;
  node.after = null;
  if (chain.last) chain.last.after = node;
  else chain.first = node;
  chain.last = node;
}

function remove<N extends { before: N | null; after: N | null }>(chain: Chain<N>, node: N): void {
  if (node.before) node.before.after = node.after;
  else chain.first = node.after;
  if (node.after) node.after.before = node.before;
  else chain.last = node.before;
  node.before = null;
  node.after = null;
}

/** Takes the last place in its group; does nothing for one that is seated. */
export function sit<S extends Seat<S>>(all: Turns<S>, stream: S, key: GroupKey): void {
  if (stream.bench) return;
  let group = all.groups.get(key);
  if (!group) {
    group = { key, of: all, first: null, last: null, before: null, after: null };
    all.groups.set(key, group);
  }
  if (!group.first) append(all, group);
  append(group, stream);
  stream.bench = group;
}

/** Gives its seat up; does nothing for one that has none. */
export function leave<S extends Seat<S>>(stream: S): void {
  const group = stream.bench;
  if (!group) return;
  remove(group, stream);
  stream.bench = null;
  if (group.first) return;
  remove(group.of, group);
  if (group.of.groups.size > KEPT_GROUPS) group.of.groups.delete(group.key);
}

/** Whose turn it is. */
export const front = <S>(all: Turns<S>): S | null => all.first?.first ?? null;

/** True when nobody else waits, so that a turn may be longer. */
export const alone = <S extends Seat<S>>(all: Turns<S>): boolean =>
  all.first === all.last && all.first?.first === all.first?.last;

/** The one whose turn it was goes last in its group, and its group last of all. */
export function pass<S extends Seat<S>>(all: Turns<S>): void {
  const group = all.first;
  const stream = group?.first;
  if (!group || !stream) return;
  if (group.first !== group.last) {
    remove(group, stream);
    append(group, stream);
  }
  if (all.first !== all.last) {
    remove(all, group);
    append(all, group);
  }
}
