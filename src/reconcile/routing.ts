/**
 * The node's routing as Services need it: policy rules, the place of the kernel's rule for local
 * addresses, and sysctls that are not ours. Every function may be called at any moment and any
 * number of times; where all is as desired, nothing is written.
 *
 * What there was before is recorded before the first change, so that restoreRouting finds back to
 * it, also after a crash. The order of changes keeps the node reachable in every moment between:
 * there is always a rule for the local table, and none of ours captures traffic before there is the
 * one that hands back.
 *
 * Whose rule is it: ours look up our own table, or are for our own device. They say `protocol
 * kernel`: systemd-networkd removes rules of anybody else's.
 */
import { NODE_DEVICE } from "../desired/host.js";
import {
  HAND_BACK_PREFERENCE,
  LOCAL_PREFERENCE,
  LOCAL_TABLE,
  type RoutingSpec,
  type RuleSpec,
  SERVICE_TABLE,
} from "../desired/routing.js";
import type { HostNamespace, RuleInfo } from "../host/Host.js";
import { formatCidr } from "../model/ipv4.js";
import { addPorts, formatPortRange, removePorts } from "../model/portRanges.js";
import { delta } from "./delta.js";
import { type HostView, readOnly } from "./readOnly.js";

/** What was changed that is not ours, and how it was before. */
export interface RoutingRecord {
  /** Preferences at which there was a rule that looks up the local table for every packet. */
  localRules: number[];
  /** By key below /proc/sys: the value before, and the one that we set. */
  sysctls: Record<string, { before: string; set: string }>;
  /** What we added to ip_local_reserved_ports, in its form. */
  reservedPorts: string;
}

/** The durable record; null where nothing was changed. */
export interface RoutingStore {
  routing(): RoutingRecord | null;
  /** Durable when it returns. */
  writeRouting(record: RoutingRecord | null): void;
}

const RTPROT_KERNEL = 2;
/** The kernel's own preference for the local table. */
const KERNEL_LOCAL_PREFERENCE = 0;
const RESERVED_PORTS = "net/ipv4/ip_local_reserved_ports";

/**
 * Brings the agent's namespace to what `spec` says. Returns what it had to change, in words. Throws
 * a HostError.
 */
export function applyRouting(host: HostView, spec: RoutingSpec, store: RoutingStore): Promise<string[]> {
  return host.within("", async (namespace) => {
    const rules = await namespace.rules();
    if (store.routing() === null)
      store.writeRouting({
        localRules: rules.filter(isLocalRule).map(({ preference }) => preference),
        sysctls: {},
        reservedPorts: "",
      });
    return [
      ...(await setSysctls(namespace, spec, store)),
      ...(await setReservedPorts(namespace, spec.reservedPorts, store)),
      ...(await setRules(namespace, spec.rules, rules)),
    ];
  });
}

/** What applyRouting would have to change, in the same words; changes nothing. Throws a HostError. */
export function inspectRouting(host: HostView, spec: RoutingSpec): Promise<string[]> {
  let record: RoutingRecord | null = null;
  return applyRouting(readOnly(host), spec, {
    routing: () => record,
    writeRouting: (next) => {
      record = next;
    },
  });
}

/**
 * Undoes what applyRouting did, by the record, and empties that. Returns what it had to change, in
 * words. Values that somebody else has changed since stay. Throws a HostError.
 */
export async function restoreRouting(host: HostView, store: RoutingStore): Promise<string[]> {
  const record = store.routing();
  if (record === null) return [];
  return host.within("", async (namespace) => {
    const changes: string[] = [];
    let rules = await namespace.rules();
    const local = (preference: number) => rules.some((rule) => isLocalRule(rule, preference));
    if (record.localRules.includes(KERNEL_LOCAL_PREFERENCE) && !local(KERNEL_LOCAL_PREFERENCE)) {
      await namespace.addRule(ruleInfo(localRule(KERNEL_LOCAL_PREFERENCE)));
      changes.push(`rule ${ruleText(localRule(KERNEL_LOCAL_PREFERENCE))}`);
    }
    for (const rule of rules.filter(isOurs).reverse()) {
      await namespace.deleteRule(rule);
      changes.push(`no rule ${ruleText(rule)}`);
    }
    rules = await namespace.rules();
    const others = rules.filter((rule) => isLocalRule(rule) && rule.preference !== LOCAL_PREFERENCE);
    // Never the only one: the node would be cut off.
    if (!record.localRules.includes(LOCAL_PREFERENCE) && local(LOCAL_PREFERENCE) && others.length > 0) {
      await namespace.deleteRule(ruleInfo(localRule(LOCAL_PREFERENCE)));
      changes.push(`no rule ${ruleText(localRule(LOCAL_PREFERENCE))}`);
    }
    changes.push(...(await setSysctls(namespace, { sysctls: [] }, store)));
    changes.push(...(await setReservedPorts(namespace, "", store)));
    store.writeRouting(null);
    return changes;
  });
}

// ---- rules ------------------------------------------------------------------------------------

async function setRules(
  namespace: HostNamespace,
  specs: readonly RuleSpec[],
  rules: readonly RuleInfo[],
): Promise<string[]> {
  const { add, remove } = delta(specs, rules.filter(isOurs), ruleText, ruleText, () => true);
  const changes: string[] = [];
  const put = async (spec: RuleSpec) => {
    await namespace.addRule(ruleInfo(spec));
    changes.push(`rule ${ruleText(spec)}`);
  };
  for (const spec of add.filter(({ table }) => table === LOCAL_TABLE)) await put(spec);
  if (!rules.some((rule) => isLocalRule(rule, LOCAL_PREFERENCE))) await put(localRule(LOCAL_PREFERENCE));
  for (const rule of rules.filter((each) => isLocalRule(each, KERNEL_LOCAL_PREFERENCE))) {
    await namespace.deleteRule(rule);
    changes.push(`no rule ${ruleText(rule)}`);
  }
  for (const spec of add.filter(({ table }) => table !== LOCAL_TABLE)) await put(spec);
  for (const rule of remove) {
    await namespace.deleteRule(rule);
    changes.push(`no rule ${ruleText(rule)}`);
  }
  return changes;
}

function isOurs(rule: RuleInfo): boolean {
  if (rule.special) return false;
  if (rule.table === SERVICE_TABLE) return true;
  const { preference, inputLink, table } = rule;
  return preference === HAND_BACK_PREFERENCE && inputLink === NODE_DEVICE && table === LOCAL_TABLE;
}

/** Whether a rule looks up the local table for every packet, at `preference` if that is given. */
function isLocalRule(rule: RuleInfo, preference: number = rule.preference): boolean {
  return !rule.special && ruleText(rule) === ruleText(localRule(preference));
}

function localRule(preference: number): RuleSpec {
  return { preference, to: null, inputLink: "", ipProtocol: 0, ports: null, table: LOCAL_TABLE };
}

function ruleInfo(spec: RuleSpec): RuleInfo {
  return { ...spec, protocol: RTPROT_KERNEL, special: false };
}

/** A rule in the words of iproute2; two that select the same have the same. */
function ruleText({ preference, to, inputLink, ipProtocol, ports, table }: RuleSpec): string {
  const words = [
    `${preference}:`,
    ...(to === null ? [] : [`to ${formatCidr(to)}`]),
    ...(inputLink === "" ? [] : [`iif ${inputLink}`]),
    ...(ipProtocol === 0 ? [] : [`ipproto ${ipProtocol}`]),
    ...(ports === null ? [] : [`dport ${formatPortRange(ports)}`]),
    `lookup ${table === LOCAL_TABLE ? "local" : table}`,
  ];
  return words.join(" ");
}

// ---- sysctls ----------------------------------------------------------------------------------

/** Sets what is wanted, and gives back what is wanted no longer. */
async function setSysctls(
  namespace: HostNamespace,
  { sysctls }: Pick<RoutingSpec, "sysctls">,
  store: RoutingStore,
): Promise<string[]> {
  const changes: string[] = [];
  const write = async (key: string, value: string) => {
    await namespace.writeSysctl(key, value);
    changes.push(`${key}=${value}`);
  };
  for (const { key, value, optional } of sysctls) {
    const current = await namespace.readSysctl(key);
    if (current === value || (current === null && optional)) continue;
    const record = store.routing()!;
    if (record.sysctls[key] === undefined)
      store.writeRouting({
        ...record,
        sysctls: { ...record.sysctls, [key]: { before: current ?? "", set: value } },
      });
    await write(key, value);
  }
  const wanted = new Set(sysctls.map(({ key }) => key));
  for (const [key, { before, set }] of Object.entries(store.routing()!.sysctls)) {
    if (wanted.has(key)) continue;
    // Gone with its link, or changed by somebody since: then it is not ours to set.
    if ((await namespace.readSysctl(key)) === set) await write(key, before);
    const record = store.routing()!;
    const { [key]: _, ...rest } = record.sysctls;
    store.writeRouting({ ...record, sysctls: rest });
  }
  return changes;
}

/** Keeps `ports` in the kernel's list beside what others have there; "" takes ours out again. */
async function setReservedPorts(
  namespace: HostNamespace,
  ports: string,
  store: RoutingStore,
): Promise<string[]> {
  const current = await namespace.readSysctl(RESERVED_PORTS);
  if (current === null) return [];
  const record = store.routing()!;
  const others = removePorts(current, record.reservedPorts);
  const wanted = addPorts(others, ports);
  const ours = removePorts(ports, others);
  if (addPorts(current, "") === wanted && record.reservedPorts === ours) return [];
  // While it changes, both the old and the new ones may be ours.
  store.writeRouting({ ...record, reservedPorts: addPorts(record.reservedPorts, ours) });
  if (addPorts(current, "") !== wanted) await namespace.writeSysctl(RESERVED_PORTS, wanted);
  store.writeRouting({ ...store.routing()!, reservedPorts: ours });
  return [`${RESERVED_PORTS}=${wanted}`];
}
