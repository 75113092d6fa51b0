/** Limits of one execution, each the same for every upstream. */

/** Above this many bytes waiting for the link, the upstream is not read. */
export const MAX_QUEUED = 64 * 1024;

/** How long a connection to an upstream may take to stand. */
export const CONNECT_WITHIN = 10_000;

/** How long the last bytes of an upgraded connection may take to leave after both sides ended. */
export const FLUSH_WITHIN = 10_000;

/** Largest message of a gRPC method that the agent serves itself. */
export const MAX_GRPC_MESSAGE = 4 * 1024 * 1024;
