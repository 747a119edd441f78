/**
 * `podwire apiserver` as a process under churn, watched by clients that are not ours:
 * @kubernetes/client-node's informers and kubectl. The server ends watches after seconds, keeps few
 * changes, and each watcher is cut off now and then, also for longer than what is kept: so they
 * resume, and have to list anew after 410.
 *
 * What is looked at:
 *   every watcher    per object resourceVersions only rise, nothing is told twice, nothing is added
 *                    that is there or changed or deleted that is not
 *   in the end       every watcher holds exactly what a fresh list says
 *   all along        the server's anonymous memory (RssAnon: without the database's mapped file)
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type Informer as ClientInformer,
  KubeConfig,
  type KubernetesListObject,
  type KubernetesObject,
  makeInformer,
} from "@kubernetes/client-node";
import type { KubeObject, ResourceRef } from "../../src/kube/KubeApi.js";
import { KubeClient } from "../../src/kube/KubeClient.js";
import {
  apiPath,
  CONFIGMAPS,
  L2ADVERTISEMENTS,
  NAMESPACES,
  qualifiedName,
  SECRETS,
  SERVICES,
} from "../../src/kube/resources.js";
import { METALLB_NAMESPACE } from "../../src/model/metallb.js";
import { PODWIRE } from "./agent.js";
import { waitFor } from "./netns.js";
import { freePort } from "./ports.js";
import { Random } from "./random.js";
import { Relay } from "./relay.js";

export interface ApiSoakOptions {
  seed: number;
  /** Time of the churn; longer where the machine does not keep up with the rate. */
  seconds: number;
  /** Changes per second. */
  rate: number;
  /** An empty directory. */
  directory: string;
  say?: (line: string) => void;
}

export interface ApiSoakResult {
  changes: number;
  seconds: number;
  /** By watcher: events, watches opened anew, lists after 410 or a new start. */
  watchers: { name: string; events: number; resumed: number; relisted: number }[];
  memory: MemoryReport;
}

const KINDS = [CONFIGMAPS, SECRETS, SERVICES, L2ADVERTISEMENTS];
const SPACES = ["soak-a", "soak-b", "soak-c"];
/** Objects of each kind. */
const POPULATION = 150;
const IN_FLIGHT = 16;
/** Five seconds of changes at 200/s: who is away longer gets 410. */
const HISTORY = 1000;
const WATCH_SECONDS = 4;
/** A cut: shorter or longer than the history. */
const SHORT_CUT_MS = 500;
const LONG_CUT_MS = 8_000;

export async function apiSoak(options: ApiSoakOptions): Promise<ApiSoakResult> {
  const { say = () => {} } = options;
  const server = await Server.start(options.directory);
  const kube = await KubeClient.fromFile(server.kubeconfig);
  const watchers: Watcher[] = [];
  try {
    for (const name of SPACES) await kube.create(NAMESPACES, { metadata: { name } });
    for (const kind of KINDS) watchers.push(await InformerWatcher.start(kind, server, options.directory));
    for (const kind of [CONFIGMAPS, L2ADVERTISEMENTS])
      watchers.push(await KubectlWatcher.start(kind, server, options.directory));
    const memory = new MemoryLog(server.pid, options.seconds);
    const churn = new Churn(kube, options);
    const cutting = new AbortController();
    const cuts = cutOff(watchers, new Random(options.seed + 1), cutting.signal);
    const progress = setInterval(() => {
      memory.sample(churn.done);
      if (memory.count % 30 === 0) say(`${churn.done} changes, ${memory.last} MiB`);
    }, 1000);
    const begin = performance.now();
    try {
      await churn.run();
    } finally {
      clearInterval(progress);
      cutting.abort();
      await cuts;
    }
    const seconds = (performance.now() - begin) / 1000;
    for (const watcher of watchers) await watcher.agrees(kube);
    if (server.failed !== null) throw new Error(`the server ended: ${server.failed}`);
    return {
      changes: churn.done,
      seconds,
      watchers: watchers.map(({ name, events, resumed, relisted }) => ({ name, events, resumed, relisted })),
      memory: memory.report(),
    };
  } catch (error) {
    throw new Error(`seed ${options.seed}: ${(error as Error).message}`, { cause: error });
  } finally {
    for (const watcher of watchers) await watcher.stop();
    kube.close();
    await server.stop();
  }
}

/** Cuts off one watcher after the other; now and then every second one, for longer than the history lasts. */
async function cutOff(watchers: readonly Watcher[], random: Random, signal: AbortSignal): Promise<void> {
  const pause = (ms: number) => sleep(ms, undefined, { signal }).catch(() => {});
  for (let i = 0; !signal.aborted; i++) {
    await pause(random.between(500, 1500));
    const long = i % 3 === 0;
    const half = Math.floor(i / 3) % 2;
    const cut = watchers.filter((_, j) => (long ? j % 2 === half : j === i % watchers.length));
    for (const { relay } of cut) relay.refuse(true);
    await pause(long ? LONG_CUT_MS : SHORT_CUT_MS);
    for (const { relay } of cut) relay.refuse(false);
  }
}

// ---- server ---------------------------------------------------------------------------------------

class Server {
  failed: string | null = null;

  private constructor(
    private readonly child: ChildProcess,
    readonly port: number,
    readonly kubeconfig: string,
  ) {
    let text = "";
    child.stderr!.setEncoding("utf8").on("data", (chunk: string) => {
      text = (text + chunk).slice(-2000);
    });
    child.once("exit", (code, signal) => {
      this.failed = `${code ?? signal}: ${text}`;
    });
  }

  static async start(directory: string): Promise<Server> {
    const port = await freePort();
    const dataDir = join(directory, "data");
    const options = {
      address: "127.0.0.1",
      port,
      "data-dir": dataDir,
      "watch-history": HISTORY,
      "min-request-timeout": WATCH_SECONDS,
    };
    const child = spawn(
      process.execPath,
      [
        PODWIRE,
        "apiserver",
        ...Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]),
      ],
      { stdio: ["ignore", "ignore", "pipe"] },
    );
    const server = new Server(child, port, join(dataDir, "admin.kubeconfig"));
    let ready = false;
    child.stderr!.on("data", (chunk: string) => {
      ready ||= chunk.includes("API server ready");
    });
    await waitFor(() => ready || server.failed !== null, { deadlineMs: 30_000, what: "API server" });
    if (server.failed !== null) throw new Error(`the server ended: ${server.failed}`);
    return server;
  }

  get pid(): number {
    return this.child.pid!;
  }

  async stop(): Promise<void> {
    if (this.failed !== null) return;
    const ended = once(this.child, "exit");
    this.child.kill("SIGTERM");
    const timer = setTimeout(() => this.child.kill("SIGKILL"), 5000);
    await ended;
    clearTimeout(timer);
  }
}

/** The kubeconfig, through a relay. */
function kubeconfigOf(server: Server, relay: Relay, directory: string): string {
  const file = join(directory, `${relay.port}.kubeconfig`);
  const text = readFileSync(server.kubeconfig, "utf8");
  writeFileSync(file, text.replace(/127\.0\.0\.1:\d+/, `127.0.0.1:${relay.port}`), { mode: 0o600 });
  return file;
}

// ---- churn ----------------------------------------------------------------------------------------

interface Known {
  kind: ResourceRef;
  namespace: string;
  name: string;
  resourceVersion: string;
}

/** Creates, updates, patches and deletes at a rate; every change is acknowledged. */
class Churn {
  done = 0;
  private readonly random: Random;
  private readonly idle = new Map<ResourceRef, Known[]>(KINDS.map((kind) => [kind, []]));
  private serial = 0;

  constructor(
    private readonly kube: KubeClient,
    private readonly options: ApiSoakOptions,
  ) {
    this.random = new Random(options.seed);
  }

  async run(): Promise<void> {
    const { seconds, rate } = this.options;
    const total = seconds * rate;
    const begin = performance.now();
    let started = 0;
    const worker = async () => {
      while (started < total) {
        const due = begin + (started++ * 1000) / rate;
        const wait = due - performance.now();
        if (wait > 0) await sleep(wait);
        await this.change();
        this.done++;
      }
    };
    await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
  }

  private async change(): Promise<void> {
    const { random, kube } = this;
    const kind = random.pick(KINDS);
    const idle = this.idle.get(kind)!;
    const roll = random.below(100);
    // What is in work is nobody else's, so that no change is refused.
    if (idle.length < 20 || (roll < 25 && idle.length < POPULATION)) {
      const made = await kube.create(kind, this.object(kind));
      idle.push(known(kind, made));
      return;
    }
    const each = idle.splice(random.below(idle.length), 1)[0]!;
    const { namespace, name } = each;
    if (roll < 50) {
      await kube.delete(kind, name, namespace);
      return;
    }
    const labels = { turn: String(this.serial++) };
    const current = await (roll < 70
      ? kube
          .get<KubeObject>(kind, name, namespace)
          .then((object) => kube.update(kind, { ...object, metadata: { ...object.metadata, labels } }))
      : kube.patch(kind, name, namespace, "merge", { metadata: { labels } }));
    idle.push(known(kind, current));
  }

  private object(kind: ResourceRef): KubeObject {
    const { random } = this;
    const n = this.serial++;
    const namespace = kind === L2ADVERTISEMENTS ? METALLB_NAMESPACE : random.pick(SPACES);
    const metadata = { name: `s${n}`, namespace, labels: { turn: "0" } };
    const text = Buffer.from(random.bytes(random.between(10, 600))).toString("base64");
    const bodies: Record<string, object> = {
      configmaps: { data: { text } },
      secrets: { type: "Opaque", data: { text } },
      services: {
        spec: { selector: { app: "none" }, ports: [{ port: 80, protocol: "TCP" }], clusterIP: "None" },
      },
      l2advertisements: { spec: { interfaces: [`eth${n}`] } },
    };
    return { metadata, ...bodies[kind.plural] } as KubeObject;
  }
}

function known(kind: ResourceRef, { metadata }: KubeObject): Known {
  const { namespace = "", name = "", resourceVersion = "" } = metadata;
  return { kind, namespace, name, resourceVersion };
}

// ---- watchers -------------------------------------------------------------------------------------

type Change = "ADDED" | "MODIFIED" | "DELETED";

/** What a watcher was told, held to the rules of a watch. */
abstract class Watcher {
  events = 0;
  resumed = 0;
  relisted = 0;
  /** The first breach of the rules. */
  protected breach: string | null = null;
  /** resourceVersions by "namespace/name". */
  protected present = new Map<string, number>();
  /** The last that was told of each object, deleted ones too. */
  private readonly last = new Map<string, number>();

  protected constructor(
    readonly name: string,
    protected readonly kind: ResourceRef,
    readonly relay: Relay,
  ) {}

  abstract stop(): Promise<void>;

  /** Waits until it holds what a fresh list says; throws what it missed, or was told wrongly. */
  async agrees(kube: KubeClient): Promise<void> {
    const { items } = await kube.list(this.kind);
    const fresh = items.map(({ metadata: m }) => `${m.namespace}/${m.name} ${m.resourceVersion}`).sort();
    await waitFor(() => this.breach !== null || JSON.stringify(this.state()) === JSON.stringify(fresh), {
      deadlineMs: 30_000,
      what: `${this.name}: the state of a fresh list`,
    }).catch((error: Error) => {
      const has = new Set(this.state());
      const missing = fresh.filter((each) => !has.has(each));
      const extra = [...has].filter((each) => !fresh.includes(each));
      throw new Error(
        `${error.message}; missing ${missing.slice(0, 5)}; not in the list ${extra.slice(0, 5)}`,
      );
    });
    if (this.breach !== null) throw new Error(`${this.name}: ${this.breach}`);
  }

  /** "namespace/name resourceVersion" of all that it holds. */
  protected state(): string[] {
    return [...this.present].map(([key, version]) => `${key} ${version}`).sort();
  }

  protected take(change: Change, key: string, version: number): void {
    this.events++;
    const before = this.present.get(key);
    const last = this.last.get(key) ?? 0;
    if (change === "ADDED" && before !== undefined) this.break(`${key} was added twice`);
    if (change !== "ADDED" && before === undefined) this.break(`${key} was ${change}, and is not there`);
    // A list without it says of a deletion only what was known.
    const stale = change === "DELETED" ? version < last : version <= last;
    if (stale) this.break(`${key}: ${change} with ${version} after ${last}`);
    this.last.set(key, version);
    if (change === "DELETED") this.present.delete(key);
    else this.present.set(key, version);
  }

  /** A list begins anew: what it names may have been told before. */
  protected restart(): void {
    for (const [key, version] of this.present) this.last.set(key, version - 1);
    this.present = new Map();
  }

  private break(what: string): void {
    this.breach ??= what;
  }
}

/** client-node's informer, and what its user does: start it again when it reports an error. */
class InformerWatcher extends Watcher {
  private stopped = false;

  private constructor(
    kind: ResourceRef,
    relay: Relay,
    private readonly informer: ClientInformer<KubernetesObject> & { list(): readonly KubernetesObject[] },
  ) {
    super(`informer of ${qualifiedName(kind)}`, kind, relay);
    const told = (change: Change) => (object: KubernetesObject) => {
      const { namespace, name, resourceVersion } = object.metadata!;
      this.take(change, `${namespace}/${name}`, Number(resourceVersion));
    };
    informer.on("add", told("ADDED"));
    informer.on("update", told("MODIFIED"));
    informer.on("delete", told("DELETED"));
    informer.on("connect", () => this.resumed++);
    informer.on("error", () => {
      setTimeout(() => {
        if (!this.stopped) void this.informer.start();
      }, 100);
    });
  }

  static async start(kind: ResourceRef, server: Server, directory: string): Promise<InformerWatcher> {
    const relay = await Relay.to(server.port);
    const config = new KubeConfig();
    config.loadFromFile(kubeconfigOf(server, relay, directory));
    const client = await KubeClient.fromFile(kubeconfigOf(server, relay, directory));
    const path = apiPath(kind, undefined);
    let lists = 0;
    const list = async (): Promise<KubernetesListObject<KubernetesObject>> => {
      lists++;
      const { items, resourceVersion } = await client.list(kind);
      // JSON, as ever: a time is text, whatever the types of client-node say.
      return { items: items as unknown as KubernetesObject[], metadata: { resourceVersion } };
    };
    const watcher = new InformerWatcher(kind, relay, makeInformer(config, path, list));
    Object.defineProperty(watcher, "relisted", { get: () => lists - 1 });
    await watcher.informer.start();
    return watcher;
  }

  override async stop(): Promise<void> {
    this.stopped = true;
    await this.informer.stop();
    this.relay.close();
  }

  /** What the informer itself holds has to be what it told. */
  protected override state(): string[] {
    const own = super.state();
    const held = this.informer
      .list()
      .map(({ metadata: m }) => `${m!.namespace}/${m!.name} ${m!.resourceVersion}`)
      .sort();
    return JSON.stringify(own) === JSON.stringify(held)
      ? own
      : [...held, "(its cache differs from its events)"];
  }
}

/** Of the watch event that kubectl wraps each object in. */
const COLUMNS = [
  "EVENT:.type",
  "NAMESPACE:.object.metadata.namespace",
  "NAME:.object.metadata.name",
  "VERSION:.object.metadata.resourceVersion",
];

/** `kubectl get -w`, and its user, who calls it again when it ends. */
class KubectlWatcher extends Watcher {
  private child: ChildProcess | null = null;
  private stopped = false;
  private ended: Promise<void> = Promise.resolve();

  private constructor(
    kind: ResourceRef,
    relay: Relay,
    private readonly environment: NodeJS.ProcessEnv,
  ) {
    super(`kubectl get ${kind.plural} -w`, kind, relay);
  }

  static async start(kind: ResourceRef, server: Server, directory: string): Promise<KubectlWatcher> {
    const relay = await Relay.to(server.port);
    const watcher = new KubectlWatcher(kind, relay, {
      ...process.env,
      KUBECONFIG: kubeconfigOf(server, relay, directory),
      KUBECACHEDIR: join(directory, "kubectl-cache"),
      NO_PROXY: "127.0.0.1",
    });
    watcher.ended = watcher.run();
    return watcher;
  }

  override async stop(): Promise<void> {
    this.stopped = true;
    this.child?.kill("SIGKILL");
    await this.ended;
    this.relay.close();
  }

  private async run(): Promise<void> {
    for (let session = 0; !this.stopped; session++) {
      if (session > 0) {
        this.relisted++;
        await sleep(100);
      }
      await this.session();
    }
  }

  private async session(): Promise<void> {
    const args = ["get", qualifiedName(this.kind), "-A", "-w", "--output-watch-events", "--no-headers"];
    const child = spawn("kubectl", [...args, "-o", `custom-columns=${COLUMNS}`], {
      env: this.environment,
      stdio: ["ignore", "pipe", "ignore"],
    });
    this.child = child;
    let text = "";
    let listed = false;
    child.stdout!.setEncoding("utf8").on("data", (chunk: string) => {
      // Only a list that came makes what was known before void.
      if (!listed) this.restart();
      listed = true;
      text += chunk;
      for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
        const [change = "", namespace, name, version] = text.slice(0, end).split(/\s+/);
        text = text.slice(end + 1);
        this.take(change as Change, `${namespace}/${name}`, Number(version));
      }
    });
    await once(child, "close");
  }
}

// ---- memory ---------------------------------------------------------------------------------------

export interface MemoryReport {
  /** MiB, the least of the first and of the last window after the warm-up. */
  first: number;
  last: number;
  /** Fitted growth after the warm-up, bytes for each change. */
  bytesPerChange: number;
  /** That over all changes after the warm-up, MiB. */
  growth: number;
}

/** Memory is stable if its fitted growth is less than this, or than a tenth of what there was, in MiB. */
const MAY_GROW = 16;

/** Throws where memory was not stable; `mayGrow` in MiB. */
export function judgeMemory({ memory }: ApiSoakResult, mayGrow = MAY_GROW): void {
  const { first, growth, bytesPerChange } = memory;
  const limit = Math.max(mayGrow, first / 10);
  if (growth > limit)
    throw new Error(
      `memory grew from ${first} MiB by ${growth} (limit ${limit}): ${bytesPerChange} bytes/change`,
    );
}

/** Part of the time until history, caches and heap have their size. */
const WARM_UP = 0.4;
/** Samples of which the least counts: what is left after a collection. */
const WINDOW = 5;

/** Anonymous memory of a process over the changes that it has made. */
class MemoryLog {
  private readonly samples: { changes: number; bytes: number }[] = [];

  constructor(
    private readonly pid: number,
    private readonly seconds: number,
  ) {}

  get count(): number {
    return this.samples.length;
  }

  /** MiB. */
  get last(): number {
    return Math.round((this.samples.at(-1)?.bytes ?? 0) / 2 ** 20);
  }

  sample(changes: number): void {
    const status = readFileSync(`/proc/${this.pid}/status`, "utf8");
    const kib = Number(/^RssAnon:\s+(\d+)/m.exec(status)?.[1]);
    this.samples.push({ changes, bytes: kib * 1024 });
  }

  report(): MemoryReport {
    const steady = this.samples.slice(Math.floor(this.samples.length * WARM_UP));
    const floors: { changes: number; bytes: number }[] = [];
    for (let i = 0; i + WINDOW <= steady.length; i += WINDOW)
      floors.push(
        steady.slice(i, i + WINDOW).reduce((least, each) => (each.bytes < least.bytes ? each : least)),
      );
    if (floors.length < 3) throw new Error(`${this.seconds} s are too short to judge memory by`);
    const mib = ({ bytes }: { bytes: number }) => Math.round(bytes / 2 ** 20);
    const bytesPerChange = Math.round(slope(floors));
    const changes = floors.at(-1)!.changes - floors[0]!.changes;
    const growth = Math.round((bytesPerChange * changes) / 2 ** 20);
    return { first: mib(floors[0]!), last: mib(floors.at(-1)!), bytesPerChange, growth };
  }
}

/** Least squares. */
function slope(points: readonly { changes: number; bytes: number }[]): number {
  const mean = (pick: (point: { changes: number; bytes: number }) => number) =>
    points.reduce((sum, point) => sum + pick(point), 0) / points.length;
  const x = mean(({ changes }) => changes);
  const y = mean(({ bytes }) => bytes);
  const above = points.reduce((sum, point) => sum + (point.changes - x) * (point.bytes - y), 0);
  const below = points.reduce((sum, point) => sum + (point.changes - x) ** 2, 0);
  return above / below;
}
