/**
 * As much of a Kubernetes API server as `kubectl exec` and `kubectl create` ask for. It counts upgrade requests and POSTs that
 * reached it, and holds every upgrade without an answer, so that a test can break the way to it at that moment.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { text as readText } from "node:stream/consumers";

const resource = (name: string, kind: string, verbs: readonly string[]) => ({
  name,
  kind,
  singularName: "",
  namespaced: true,
  verbs,
});

const DOCUMENTS: Readonly<Record<string, unknown>> = {
  "/version": { major: "1", minor: "30", gitVersion: "v1.30.0" },
  "/api": { kind: "APIVersions", versions: ["v1"], serverAddressByClientCIDRs: [] },
  "/apis": { kind: "APIGroupList", apiVersion: "v1", groups: [] },
  "/api/v1": {
    kind: "APIResourceList",
    groupVersion: "v1",
    resources: [
      resource("pods", "Pod", ["get", "list"]),
      resource("pods/exec", "PodExecOptions", ["create", "get"]),
      resource("configmaps", "ConfigMap", ["create", "get"]),
    ],
  },
  "/api/v1/namespaces/default/pods/web": {
    kind: "Pod",
    apiVersion: "v1",
    metadata: { name: "web", namespace: "default" },
    spec: { containers: [{ name: "c", image: "i" }] },
    status: { phase: "Running" },
  },
};

export class FakeApi implements AsyncDisposable {
  /** Upgrade requests that came in, whatever became of them. */
  upgrades = 0;
  /** How often an object of each name was created. */
  readonly created = new Map<string, number>();
  readonly #server: Server;
  readonly #sockets = new Set<Duplex>();

  private constructor() {
    this.#server = createServer((request, response) => void this.#serve(request, response));
    this.#server.on("upgrade", (_request, socket) => {
      this.upgrades += 1;
      this.#sockets.add(socket);
      socket.on("error", () => socket.destroy());
      socket.once("close", () => this.#sockets.delete(socket));
    });
  }

  static async listen(): Promise<FakeApi> {
    const api = new FakeApi();
    api.#server.listen(0, "127.0.0.1");
    await once(api.#server, "listening");
    return api;
  }

  get url(): string {
    const address = this.#server.address();
    return address && typeof address === "object" ? `http://127.0.0.1:${address.port}` : "";
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = new URL(request.url ?? "/", "http://api").pathname;
    const body = await readText(request).catch(() => "");
    if (request.method === "POST" && path.endsWith("/configmaps")) {
      const name: string = JSON.parse(body).metadata.name;
      this.created.set(name, (this.created.get(name) ?? 0) + 1);
      answer(response, 201, JSON.parse(body));
      return;
    }
    const document = DOCUMENTS[path];
    if (document) answer(response, 200, document);
    else answer(response, 404, { kind: "Status", apiVersion: "v1", status: "Failure", reason: "NotFound", code: 404 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}

function answer(response: ServerResponse, status: number, document: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(document));
}
