/** The router of this node: names each request and gives it its own actor. */
import { incarnationOf, nameOf, type RequestId } from "../../actors/ids.ts";
import type { IngressOptions } from "./ingress-options.ts";
import { RoutedRequest } from "./routed-request.ts";
import type { Router } from "./router.ts";

export function createIngress(options: IngressOptions): Router {
  const { self } = options.routing;
  const prefix = `${nameOf(self)}-${incarnationOf(self).toString(36)}`;
  let count = 0;
  return {
    open(request, handler) {
      count += 1;
      return new RoutedRequest(options, `${prefix}-${count.toString(36)}` as RequestId, request, handler);
    },
  };
}
