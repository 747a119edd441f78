/** KubeApi over the store of this process, without HTTP: what the controllers beside the server use. */
import type {
  KubeApi,
  KubeObject,
  ListOptions,
  PatchKind,
  ResourceRef,
  WatchEvent,
} from "../kube/KubeApi.js";
import { noSuchPath } from "./errors.js";
import type { ResourceDefinition } from "./resource.js";
import type { User } from "./verbs/Hooks.js";
import type { Subresource, Verbs } from "./verbs/Verbs.js";

export const CONTROLLER: User = { name: "system:kube-controller-manager", groups: ["system:masters"] };

/** What comes out of the store is shared: it is copied before a caller may change it. */
const copy = <T>(object: KubeObject): T => structuredClone(object) as unknown as T;

export class LocalKube implements KubeApi {
  constructor(
    private readonly verbs: Verbs,
    private readonly user: User = CONTROLLER,
  ) {}

  async get<T extends KubeObject>(resource: ResourceRef, name: string, namespace?: string): Promise<T> {
    return copy(this.verbs.get(this.definition(resource), namespace, name));
  }

  async list<T extends KubeObject>(
    resource: ResourceRef,
    options: ListOptions = {},
  ): Promise<{ items: T[]; resourceVersion: string }> {
    const { items, resourceVersion } = this.verbs.list(this.definition(resource), {
      ...options,
      namespace: options.namespace || undefined,
    });
    return { items: items.map((each) => copy<T>(each)), resourceVersion };
  }

  async create<T extends KubeObject>(resource: ResourceRef, object: T): Promise<T> {
    return copy(
      await this.verbs.create(this.definition(resource), object.metadata.namespace, object, this.user),
    );
  }

  async update<T extends KubeObject>(resource: ResourceRef, object: T, subresource = ""): Promise<T> {
    const { namespace, name } = object.metadata;
    return copy(
      await this.verbs.update(this.definition(resource), namespace, name!, object, this.user, {
        subresource: subresource as Subresource,
      }),
    );
  }

  async patch<T extends KubeObject>(
    resource: ResourceRef,
    name: string,
    namespace: string | undefined,
    kind: PatchKind,
    patch: unknown,
    subresource = "",
  ): Promise<T> {
    return copy(
      await this.verbs.patch(this.definition(resource), namespace, name, kind, patch, this.user, {
        subresource: subresource as Subresource,
      }),
    );
  }

  async delete(
    resource: ResourceRef,
    name: string,
    namespace?: string,
    options: { gracePeriodSeconds?: number; uid?: string; resourceVersion?: string } = {},
  ): Promise<void> {
    const { gracePeriodSeconds, ...preconditions } = options;
    await this.verbs.delete(this.definition(resource), namespace, name, this.user, {
      ...(gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds }),
      preconditions,
    });
  }

  watch<T extends KubeObject>(
    resource: ResourceRef,
    options: ListOptions & { resourceVersion: string },
    onEvent: (event: WatchEvent<T>) => void,
    signal: AbortSignal,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return resolve();
      try {
        const stop = this.verbs.watch(this.definition(resource), options, {
          event: (type, object) => onEvent({ type, object: copy<T>(object) }),
        });
        signal.addEventListener("abort", () => {
          stop();
          resolve();
        });
      } catch (error) {
        reject(error as Error);
      }
    });
  }

  private definition({ group, plural }: ResourceRef): ResourceDefinition {
    const definition = this.verbs.definition(group, plural);
    if (definition === undefined) throw noSuchPath();
    return definition;
  }
}
