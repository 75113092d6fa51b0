/** The one function of `hashring` that we use; its `get` pollutes prototypes and must stay unreachable. */
declare module "hashring" {
  class HashRing {
    constructor(
      servers: Record<string, { readonly vnodes: number }>,
      hash: (key: string) => readonly number[],
      options?: Record<string, unknown>,
    );
    range(key: string, size: number, unique: boolean): string[];
  }
  export = HashRing;
}
