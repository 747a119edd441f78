/**
 * A host on which what would be done can be seen without doing it: every change succeeds and has no
 * effect.
 */
import type { Host, HostNamespace } from "../host/Host.js";

/** What it takes to look at namespaces and change them. */
export type HostView = Pick<Host, "netnsIdentity" | "within">;

/** A view of `host` that lets nothing be changed, and says nothing of it. */
export function readOnly(host: HostView): HostView {
  return {
    netnsIdentity: (path) => host.netnsIdentity(path),
    within: (path, fn) => host.within(path, (namespace) => fn(readOnlyView(namespace))),
  };
}

function readOnlyView(namespace: HostNamespace): HostNamespace {
  const nothing = async () => {};
  return {
    link: (name) => namespace.link(name),
    links: () => namespace.links(),
    addresses: (index) => namespace.addresses(index),
    routes: () => namespace.routes(),
    rules: () => namespace.rules(),
    neighbours: (index) => namespace.neighbours(index),
    readSysctl: (key) => namespace.readSysctl(key),
    setLink: nothing,
    deleteLink: nothing,
    addAddress: nothing,
    deleteAddress: nothing,
    addRoute: nothing,
    deleteRoute: nothing,
    addRule: nothing,
    deleteRule: nothing,
    setNeighbour: nothing,
    writeSysctl: nothing,
  };
}
