/**
 * A small API server of the demo's own, for a machine without a Kubernetes cluster: enough for `kubectl get namespaces`,
 * `kubectl get pods --watch` and `kubectl logs --follow`. It says in its version and names that it is no Kubernetes.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";

type Item = { readonly metadata: { readonly name: string; readonly creationTimestamp: string } } & Record<
  string,
  unknown
>;
type Collection = { readonly kind: string; readonly items: readonly Item[]; readonly namespaced: boolean };

const BEAT = 1_000;
const META = "meta.k8s.io/v1";

export class OwnApi implements AsyncDisposable {
  readonly #server: Server;
  readonly #cluster: string;
  readonly #began = new Date().toISOString().replace(/\.\d+Z$/, "Z");

  private constructor(cluster: string) {
    this.#cluster = cluster;
    this.#server = createServer((request, response) => this.#serve(request, response));
  }

  static async listen(cluster: string): Promise<OwnApi> {
    const api = new OwnApi(cluster);
    const { promise, resolve } = Promise.withResolvers<void>();
    api.#server.listen(0, "127.0.0.1", resolve);
    await promise;
    return api;
  }

  get url(): string {
    const address = this.#server.address();
    return address && typeof address === "object" ? `http://127.0.0.1:${address.port}` : "";
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    request.resume();
    const { pathname, searchParams } = new URL(request.url ?? "/", "http://api");
    const table = (request.headers.accept ?? "").includes("as=Table");
    if (request.method !== "GET") return refuse(response, 405, "MethodNotAllowed", "the demo's own API only reads");
    const document = this.#documents()[pathname];
    if (document) return answer(response, document);
    if (/\/pods\/[^/]+\/log$/.test(pathname)) return this.#log(response, searchParams.get("follow") === "true");
    const [, path = "", name] = /^(.*?\/(?:namespaces|pods))(?:\/([^/]+))?$/.exec(pathname) ?? [];
    const collection = this.#collections()[path];
    if (!collection) return refuse(response, 404, "NotFound", "the demo's own API does not have this");
    if (name !== undefined) return one(response, collection, name, table);
    if (searchParams.get("watch") === "true" || searchParams.get("watch") === "1") {
      return watch(response, collection, table, Number(searchParams.get("timeoutSeconds") ?? 0));
    }
    answer(response, table ? tableOf(collection.items) : listOf(collection));
  }

  #documents(): Readonly<Record<string, object>> {
    const resource = (name: string, kind: string, namespaced: boolean, ...shortNames: string[]) => ({
      name,
      singularName: kind.toLowerCase(),
      kind,
      namespaced,
      shortNames,
      verbs: ["get", "list", "watch"],
    });
    return {
      "/version": { major: "1", minor: "30", gitVersion: "v1.30.0-kas-demo", platform: "no Kubernetes: the kas demo" },
      "/api": { kind: "APIVersions", versions: ["v1"], serverAddressByClientCIDRs: [] },
      "/apis": { kind: "APIGroupList", apiVersion: "v1", groups: [] },
      "/api/v1": {
        kind: "APIResourceList",
        groupVersion: "v1",
        resources: [
          resource("namespaces", "Namespace", false, "ns"),
          resource("pods", "Pod", true, "po"),
          { ...resource("pods/log", "Pod", true), verbs: ["get"] },
        ],
      },
    };
  }

  #collections(): Readonly<Record<string, Collection>> {
    const creationTimestamp = this.#began;
    const namespaces = ["default", "kas-demo"].map((name) => ({
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name, creationTimestamp, uid: name, resourceVersion: "1" },
      status: { phase: "Active" },
    }));
    const pods = [1, 2].map((n) => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: {
        name: `web-${n}-of-${this.#cluster}`,
        namespace: "default",
        creationTimestamp,
        uid: `${n}`,
        resourceVersion: "1",
      },
      spec: { containers: [{ name: "web", image: "demo" }] },
      status: { phase: "Running" },
    }));
    const allPods = { kind: "PodList", items: pods, namespaced: true };
    return {
      "/api/v1/namespaces": { kind: "NamespaceList", items: namespaces, namespaced: false },
      "/api/v1/pods": allPods,
      "/api/v1/namespaces/default/pods": allPods,
      "/api/v1/namespaces/kas-demo/pods": { ...allPods, items: [] },
    };
  }

  #log(response: ServerResponse, follow: boolean): void {
    let line = 0;
    const say = () =>
      response.write(`${new Date().toISOString()} ${this.#cluster}: line ${++line} of the demo's log\n`);
    response.writeHead(200, { "content-type": "text/plain" });
    say();
    if (follow) every(response, say);
    else response.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((closed) => this.#server.close(closed));
  }
}

function answer(response: ServerResponse, document: object, status = 200): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(document));
}

function refuse(response: ServerResponse, code: number, reason: string, message: string): void {
  answer(response, { kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", message, reason, code }, code);
}

function one(response: ServerResponse, { items }: Collection, name: string, table: boolean): void {
  const found = items.find(({ metadata }) => metadata.name === name);
  if (!found) refuse(response, 404, "NotFound", `"${name}" not found in the demo's own API`);
  else answer(response, table ? tableOf([found]) : found);
}

/** What is there, then the first of them again and again: something happens, so that a watch has something to show. */
function watch(response: ServerResponse, { items }: Collection, table: boolean, seconds: number): void {
  response.writeHead(200, { "content-type": "application/json" });
  const event = (type: string, item: Item) =>
    response.write(`${JSON.stringify({ type, object: table ? tableOf([item]) : item })}\n`);
  for (const item of items) event("ADDED", item);
  const [first] = items;
  every(response, () => first && event("MODIFIED", first));
  if (seconds > 0) {
    const timer = setTimeout(() => response.end(), seconds * 1_000);
    response.once("close", () => clearTimeout(timer));
  }
}

function every(response: ServerResponse, run: () => void): void {
  const timer = setInterval(run, BEAT);
  response.once("close", () => clearInterval(timer));
}

const listOf = ({ kind, items }: Collection) => ({ kind, apiVersion: "v1", metadata: { resourceVersion: "1" }, items });

const COLUMNS = [
  { name: "Name", type: "string", format: "name", description: "", priority: 0 },
  { name: "Status", type: "string", format: "", description: "", priority: 0 },
  { name: "Created", type: "string", format: "", description: "", priority: 0 },
];

const tableOf = (items: readonly Item[]) => ({
  kind: "Table",
  apiVersion: META,
  metadata: { resourceVersion: "1" },
  columnDefinitions: COLUMNS,
  rows: items.map((item) => ({
    cells: [item.metadata.name, (item.status as { phase: string }).phase, item.metadata.creationTimestamp],
    object: { kind: "PartialObjectMetadata", apiVersion: META, metadata: item.metadata },
  })),
});
