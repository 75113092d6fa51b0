/** What a request means to Kubernetes: verb and resource, without names of objects, for records and metrics. */

export type MethodClass = "get" | "list" | "watch" | "mutate" | "exec" | "logs" | "portforward" | "other";

export type KubernetesVerb = { readonly verb: string; readonly resource: string; readonly methodClass: MethodClass };

const VERBS: Readonly<Record<string, string>> = {
  GET: "get",
  HEAD: "get",
  POST: "create",
  PUT: "update",
  PATCH: "patch",
  DELETE: "delete",
};

const WATCH = /[?&]watch=(?:true|1)(?:&|$)/;
const FOLLOW = /[?&]follow=(?:true|1)(?:&|$)/;
const INTERACTIVE = new Set(["exec", "attach", "portforward"]);
const PLAIN = /^[a-z0-9.-]{1,63}$/;

export const isWatch = (path: string): boolean => WATCH.test(path);
/** Somebody looks at it; who follows a log does not begin again elsewhere by itself, as who watches does. */
export const isInteractive = (path: string): boolean =>
  FOLLOW.test(path) || /\/(?:exec|attach|portforward)(?:\?|$)/.test(path);

/** `path` as forwarded, query included. */
export function kubernetesVerb(method: string, path: string): KubernetesVerb {
  const mark = path.indexOf("?");
  const parts = (mark < 0 ? path : path.slice(0, mark)).split("/").filter(Boolean);
  const grouped = parts[0] === "apis";
  if (!grouped && parts[0] !== "api") return { verb: method.toLowerCase(), resource: "", methodClass: "other" };
  const group = grouped ? (parts[1] ?? "") : "";
  const rest = parts.slice(grouped ? 3 : 2);
  const inner = rest[0] === "watch" ? rest.slice(1) : rest;
  const scoped = inner[0] === "namespaces" && inner.length > 2 && !isOwnSubresource(inner);
  const [kind = "", name = "", subresource = ""] = scoped ? inner.slice(2) : inner;
  const resource = [plain(kind), group && `.${plain(group)}`, subresource && `/${plain(subresource)}`].join("");
  const watching = rest[0] === "watch" || WATCH.test(path);
  const verb = verbOf(method, name !== "", watching);
  return { verb, resource, methodClass: classOf(verb, subresource) };
}

const isOwnSubresource = (inner: readonly string[]): boolean =>
  inner.length === 3 && (inner[2] === "status" || inner[2] === "finalize");

const plain = (part: string): string => (PLAIN.test(part) ? part : "other");

function verbOf(method: string, named: boolean, watching: boolean): string {
  const verb = VERBS[method] ?? "other";
  if (verb === "get") return watching ? "watch" : named ? "get" : "list";
  return verb === "delete" && !named ? "deletecollection" : verb;
}

function classOf(verb: string, subresource: string): MethodClass {
  if (subresource === "log") return "logs";
  if (subresource === "portforward") return "portforward";
  if (INTERACTIVE.has(subresource)) return "exec";
  if (verb === "get" || verb === "list" || verb === "watch") return verb;
  return verb === "other" ? "other" : "mutate";
}
