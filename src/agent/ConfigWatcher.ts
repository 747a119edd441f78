/**
 * Tells when a file's text has changed. Watches the directory, not the file: editors and config
 * managers replace files by rename. Events only say "look": what counts is the text.
 */
import { type FSWatcher, watch } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import type { Log } from "../reconcile/Log.js";

/** Writers take several steps: look once they have been quiet for this long. */
const SETTLE_MS = 150;

export class ConfigWatcher {
  private watcher: FSWatcher | null = null;
  private timer: NodeJS.Timeout | null = null;

  /**
   * @param text the file's text as it was read last
   * @param changed called with the new text; the next call waits for it
   */
  constructor(
    private readonly file: string,
    private text: string,
    private readonly changed: (text: string) => Promise<void>,
    private readonly log: Log,
  ) {}

  start(): void {
    try {
      this.watcher = watch(dirname(this.file), { persistent: false }, () => this.settle());
      this.watcher.on("error", (error) => this.lost(error));
    } catch (error) {
      this.lost(error);
    }
  }

  /** Looks at the file now; `force` reports its text even where it is the same. */
  async look(force: boolean): Promise<void> {
    let text: string;
    try {
      text = await readFile(this.file, "utf8");
    } catch (error) {
      // In the middle of a replacement, or removed: the state stays as it is.
      this.log.warn({ file: this.file, err: error }, "the config file cannot be read; nothing changes");
      return;
    }
    if (text === this.text && !force) return;
    this.text = text;
    await this.changed(text);
  }

  stop(): void {
    this.watcher?.close();
    if (this.timer !== null) clearTimeout(this.timer);
  }

  private settle(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.look(false), SETTLE_MS);
  }

  private lost(error: unknown): void {
    this.log.warn(
      { file: this.file, err: error },
      "cannot watch the config file; SIGHUP makes the agent read it",
    );
  }
}
