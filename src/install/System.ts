/**
 * What installing does to a machine: files below a root directory, and systemctl. An interface, so
 * that the steps are tested without a machine.
 */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

export interface System {
  /** Whether services can be started here: systemd is process 1, and there is no other root directory. */
  readonly startsServices: boolean;
  exists(path: string): boolean;
  /** Text of a file, null where there is none. */
  read(path: string): string | null;
  /** Whole or not at all, with its directories. */
  write(path: string, text: string, mode: number): void;
  /** Removes a file, or a directory with all that is in it. Returns whether there was one. */
  remove(path: string): boolean;
  /** Removes a directory if it is empty. Returns whether it did. */
  removeEmpty(path: string): boolean;
  /** Runs systemctl; rejects with what it said where that fails. Returns its output. */
  systemctl(...args: string[]): Promise<string>;
}

/** This machine, or below `root` the files of another one. */
export class RealSystem implements System {
  readonly startsServices: boolean;

  constructor(private readonly root = "/") {
    // sd_booted(3)
    this.startsServices = root === "/" && existsSync("/run/systemd/system");
  }

  exists(path: string): boolean {
    return existsSync(this.at(path));
  }

  read(path: string): string | null {
    try {
      return readFileSync(this.at(path), "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
      throw error;
    }
  }

  write(path: string, text: string, mode: number): void {
    const file = this.at(path);
    mkdirSync(dirname(file), { recursive: true });
    const temporary = `${file}.${process.pid}.new`;
    writeFileSync(temporary, text, { mode });
    renameSync(temporary, file);
  }

  remove(path: string): boolean {
    const there = this.exists(path);
    rmSync(this.at(path), { recursive: true, force: true });
    return there;
  }

  removeEmpty(path: string): boolean {
    try {
      rmdirSync(this.at(path));
      return true;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOENT" || code === "ENOTEMPTY" || code === "EBUSY") return false;
      throw error;
    }
  }

  systemctl(...args: string[]): Promise<string> {
    return new Promise((resolve, reject) => {
      execFile("systemctl", args, (error, stdout, stderr) => {
        if (error === null) resolve(stdout);
        else reject(new Error(`systemctl ${args.join(" ")}: ${stderr.trim() || error.message}`));
      });
    });
  }

  private at(path: string): string {
    return join(this.root, path);
  }
}
