/**
 * An informer's copy of one kind, with our own writes in it before the watch tells of them: whoever has
 * just created three pods must not see none and create three more. The newer resourceVersion wins;
 * an object that was seen to go does not come back by a late answer.
 */

import type { Informer } from "../kube/Informer.js";
import type { KubeObject, ResourceRef } from "../kube/KubeApi.js";
import { apiVersionOf } from "../kube/resources.js";
import { keyOf, timestamp } from "./meta.js";

export type Indices<T> = Record<string, (object: T) => readonly string[]>;
export type Listener<T> = (now: T | undefined, before: T | undefined) => void;

/** Uids of objects that went, kept to refuse late answers. */
const MOST_GONE = 10_000;

export class View<T extends KubeObject> {
  readonly #objects = new Map<string, T>();
  readonly #indices: {
    name: string;
    values: (object: T) => readonly string[];
    keys: Map<string, Set<string>>;
  }[];
  readonly #listeners: Listener<T>[] = [];
  readonly #gone = new Set<string>();

  constructor(
    readonly resource: ResourceRef,
    informer: Pick<Informer<T>, "addHandler">,
    indices: Indices<T> = {},
  ) {
    this.#indices = Object.entries(indices).map(([name, values]) => ({ name, values, keys: new Map() }));
    informer.addHandler({
      added: (object) => this.#take(object),
      updated: (object) => this.#take(object),
      deleted: (object) => this.#remove(object),
    });
  }

  /** Told of changes that the watch brought. */
  onChange(listener: Listener<T>): void {
    this.#listeners.push(listener);
    for (const object of this.#objects.values()) listener(object, undefined);
  }

  get(key: string): T | undefined {
    return this.#objects.get(key);
  }

  list(): T[] {
    return [...this.#objects.values()];
  }

  by(index: string, value: string): T[] {
    const keys = this.#indices.find(({ name }) => name === index)!.keys.get(value);
    return keys ? [...keys].map((key) => this.#objects.get(key)!) : [];
  }

  /** The answer to our own create, update or patch. */
  written(object: T): void {
    const { uid } = object.metadata;
    if (uid !== undefined && this.#gone.has(uid)) return;
    this.#put(this.#whole(object));
  }

  /** Our own deletion was accepted: until the watch tells more, the object is terminating. */
  deleting(object: T, now: number): void {
    const key = keyOf(object);
    const known = this.#objects.get(key);
    if (!known || known.metadata.uid !== object.metadata.uid || known.metadata.deletionTimestamp) return;
    this.#set(key, { ...known, metadata: { ...known.metadata, deletionTimestamp: timestamp(now) } });
  }

  #take(given: T): void {
    const object = this.#whole(given);
    const before = this.#objects.get(keyOf(object));
    this.#put(object);
    for (const listener of this.#listeners) listener(this.#objects.get(keyOf(object)), before);
  }

  #remove(last: T): void {
    const key = keyOf(last);
    const { uid } = last.metadata;
    if (uid !== undefined) {
      this.#gone.add(uid);
      if (this.#gone.size > MOST_GONE) this.#gone.delete(this.#gone.values().next().value!);
    }
    const known = this.#objects.get(key);
    // A successor of the same name stays.
    if (known && known.metadata.uid === uid) {
      this.#unindex(key, known);
      this.#objects.delete(key);
    }
    for (const listener of this.#listeners) listener(this.#objects.get(key), this.#whole(last));
  }

  #put(object: T): void {
    const key = keyOf(object);
    const known = this.#objects.get(key);
    if (known && version(known) > version(object)) return;
    this.#set(key, object);
  }

  #set(key: string, object: T): void {
    const known = this.#objects.get(key);
    if (known) this.#unindex(key, known);
    this.#objects.set(key, object);
    for (const { values, keys } of this.#indices)
      for (const value of values(object)) {
        const set = keys.get(value);
        if (set) set.add(key);
        else keys.set(value, new Set([key]));
      }
  }

  #unindex(key: string, object: T): void {
    for (const { values, keys } of this.#indices)
      for (const value of values(object)) {
        const set = keys.get(value);
        set?.delete(key);
        if (set?.size === 0) keys.delete(value);
      }
  }

  /** Items of a list come without apiVersion and kind. */
  #whole(object: T): T {
    if (object.kind && object.apiVersion) return object;
    return { ...object, apiVersion: apiVersionOf(this.resource), kind: this.resource.kind };
  }
}

function version({ metadata }: KubeObject): number {
  return Number(metadata.resourceVersion ?? 0);
}
