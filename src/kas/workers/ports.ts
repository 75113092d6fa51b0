/**
 * The ports that the workers share. A fixed one must be nobody's: sharing it by accident with another server would split
 * its callers. One that was left open (0) is chosen here and kept until the workers have it.
 */
import { formatAddress } from "../../config/address.ts";
import type { KasConfig } from "../../config/kas.ts";
import { SHARED_LISTENERS, type SharedPorts, sharedAddresses } from "../../config/worker.ts";
import { type Listener, listen } from "../../net/listener.ts";

export interface ClaimedPorts extends AsyncDisposable {
  readonly ports: SharedPorts;
}

/** Dispose it once all workers listen. Throws `invalid` that says what to do when a port is taken. */
export async function claimPorts(config: KasConfig): Promise<ClaimedPorts> {
  await using claimed = new AsyncDisposableStack();
  await using fixed = new AsyncDisposableStack();
  const ports: Record<string, number> = {};
  const addresses = sharedAddresses(config);
  for (const name of SHARED_LISTENERS) {
    const address = addresses[name];
    if (!address) continue;
    const open = address.port === 0;
    const options = { name, address: formatAddress(address), reusePort: open };
    const listener = await listen({ ...options, onSocket: (socket) => void socket.destroy() });
    (open ? claimed : fixed).use(listener);
    ports[name] = portOf(listener);
  }
  const kept = claimed.move();
  return { ports, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

const portOf = ({ address }: Listener): number => Number(address.slice(address.lastIndexOf(":") + 1));
