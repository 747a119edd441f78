/**
 * README and docs: every command in them is one that there is, with options that it has; every file,
 * link, setting and dependency that they name is there. What commands print is held against the lab
 * (test/netns/lab.test.ts).
 */
import { existsSync, readdirSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import type { Command } from "commander";
import { describe, expect, it } from "vitest";
import { parseConfig } from "../../src/agent/config.js";
import { parseImageTable } from "../../src/runtime/images.js";
import {
  commandsOf,
  DOCUMENTS,
  fences,
  missing,
  normalise,
  prose,
  ROOT,
  read,
  type ShownCommand,
  simpleCommands,
  words,
} from "../support/documents.js";

const PACKAGE = JSON.parse(read("package.json")) as {
  scripts: Record<string, string>;
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
};

/** Programs of others that documents call. What they do with their arguments is theirs. */
const FOREIGN = new Set([
  "arp",
  "curl",
  "ip",
  "journalctl",
  "kubectl",
  "python3",
  "redis-cli",
  "tshark",
  "vagrant",
]);

const ALL = DOCUMENTS.flatMap((file) => fences(file));

/** Names of podwire's subcommands, as main.ts has them. */
const SUBCOMMANDS = [...read("src/cli/main.ts").matchAll(/^ {2}([a-z]+): \{$/gm)].map((match) => match[1]!);

/** A subcommand that does nothing but parse, and throws instead of exiting. */
async function subcommand(name: string): Promise<Command> {
  const module = (await import(`../../src/cli/${name}.ts`)) as Record<string, () => Command>;
  const command = module[`${name}Command`]!();
  disarm(command);
  return command;
}

function disarm(command: Command): void {
  command.exitOverride().configureOutput({ writeOut: () => {}, writeErr: () => {} });
  if (command.commands.length === 0) command.action(() => {});
  for (const each of command.commands) disarm(each);
}

/** Fails where `args` are no command line of podwire's. */
async function checkPodwire([name, ...args]: string[]): Promise<void> {
  if (name === undefined || !SUBCOMMANDS.includes(name)) throw new Error(`no podwire ${name}`);
  await (await subcommand(name)).parseAsync(args, { from: "user" });
  // `lab exec WHERE -- COMMAND`: the command is one too.
  const inner = args.indexOf("--");
  if (name === "lab" && args[0] === "exec") await check(args.slice(inner === -1 ? 2 : inner + 1), ".");
}

/** Sources of one of the development programs, as text: its options are in its usage. */
function sources(folder: string): string {
  return readdirSync(`${ROOT}${folder}`, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => read(join(folder, name)))
    .join("\n");
}

function checkScript(name: string, args: readonly string[]): Promise<void> | undefined {
  expect(Object.keys(PACKAGE.scripts), `npm run ${name}`).toContain(name);
  const mine = args[0] === "--" ? args.slice(1) : args;
  if (name === "lab") return checkPodwire(["lab", "run", ...mine]);
  const kinds: Record<string, [file: string, pattern: (kind: string) => string, folder: string]> = {
    bench: ["bench/main.ts", (kind) => `kind === "${kind}"`, "bench"],
    soak: ["test/soak/main.ts", (kind) => `  ${kind}: `, "test/soak"],
  };
  const kind = kinds[name];
  if (kind !== undefined) expect(read(kind[0])).toContain(kind[1](mine[0]!));
  const folder = kind?.[2] ?? (name === "acceptance" ? "test/acceptance" : null);
  for (const option of mine.filter((arg) => arg.startsWith("-"))) expect(sources(folder!)).toContain(option);
  return undefined;
}

/** Fails where a simple command cannot be what it says. `directory` is where it would run, from the root. */
async function check(command: readonly string[], directory: string): Promise<void> {
  const [program, ...args] = command as [string, ...string[]];
  if (program === "podwire") return checkPodwire(args);
  if (program === "npm") {
    if (args[0] === "run") return checkScript(args[1]!, args.slice(2));
    return expect(["install", "test", "link", "pack"]).toContain(args[0]);
  }
  if (program === "sh" || program === "node") {
    if (args[0] === "dist/cli/main.js") return checkPodwire(args.slice(1));
    expect(existsSync(join(ROOT, directory, args[0]!)), args[0]).toBe(true);
    if (args[0] === "scripts/setup.sh" && args.length > 1)
      expect(read("scripts/setup.sh")).toMatch(new RegExp(`^  (\\w+ \\| )*${args[1]!}( \\| \\w+)*\\)`, "m"));
    return;
  }
  expect([...FOREIGN], `program ${program}`).toContain(program);
  if (program === "vagrant") expect(existsSync(join(ROOT, directory, "Vagrantfile"))).toBe(true);
  for (const [i, arg] of args.entries())
    if (args[i - 1] === "-f" && arg.startsWith("manifests/"))
      expect(existsSync(join(ROOT, arg)), arg).toBe(true);
}

async function checkLine({ place, text }: ShownCommand): Promise<void> {
  let directory = ".";
  for (const command of simpleCommands(text)) {
    try {
      if (command[0] === "cd") {
        directory = command[1]!;
        expect(existsSync(join(ROOT, directory)), directory).toBe(true);
      } else await check(command, directory);
    } catch (error) {
      throw new Error(`${place}: ${command.join(" ")}: ${(error as Error).message}`);
    }
  }
}

/** The path of subcommands that `path` begins with, as far as there are any. */
async function deepest(path: readonly string[]): Promise<{ command: Command; rest: string[] }> {
  let command = await subcommand(path[0]!);
  let i = 1;
  for (; i < path.length; i++) {
    const next = command.commands.find((each) => each.name() === path[i]);
    if (next === undefined) break;
    command = next;
  }
  return { command, rest: path.slice(i) };
}

const hasOption = (command: Command, flag: string) =>
  flag === "--help" || command.options.some(({ long, short }) => long === flag || short === flag);

/** Anchors as GitHub makes them of headings. */
const anchors = (file: string) =>
  prose(file)
    .filter((line) => /^#+ /.test(line))
    .map((line) =>
      line
        .replace(/^#+ /, "")
        .toLowerCase()
        .replace(/[^\p{L}\p{N} _-]/gu, "")
        .replaceAll(" ", "-"),
    );

describe("commands in documents", () => {
  it("are ones that there are, with options that they have", async () => {
    const commands = ALL.flatMap(commandsOf);
    expect(commands.length).toBeGreaterThan(60);
    for (const command of commands) await checkLine(command);
  });

  it("stand in blocks of a known kind", () => {
    const kinds = new Set(["", "sh", "text", "console", "yaml"]);
    for (const { place, language, lines } of ALL) {
      expect(kinds, place).toContain(language);
      // A command in a block of another kind would be looked at by nobody.
      if (language === "")
        expect(
          lines.filter((line) => /^\S*[$#] /.test(line)),
          place,
        ).toEqual([]);
    }
  });

  it("named in the prose have the options that stand with them", async () => {
    const named = DOCUMENTS.flatMap((file) =>
      prose(file).flatMap((line) =>
        [...line.matchAll(/`(podwire [^`]+)`/g)].map((match) => [file, match[1]!]),
      ),
    );
    expect(named.length).toBeGreaterThan(30);
    for (const [file, text] of named) {
      const own = text!.split(" -- ")[0]!;
      const [, ...path] = own.split(/[\s[\]|\\]+/).filter((word) => word !== "");
      // `podwire …` in a sentence about all of them.
      if (path[0] === "…" || path[0]!.startsWith("-")) continue;
      expect(SUBCOMMANDS, `${file}: ${text}`).toContain(path[0]);
      const { command, rest } = await deepest(path);
      for (const flag of rest.filter((word) => word.startsWith("-")))
        expect(hasOption(command, flag), `${file}: ${text}: ${flag}`).toBe(true);
    }
  });

  it("options named alone are some command's", async () => {
    const all: Command[] = [];
    const add = (command: Command): void => {
      all.push(command);
      command.commands.forEach(add);
    };
    for (const name of SUBCOMMANDS) add(await subcommand(name));
    const others = ["bench", "test/soak", "test/acceptance"].map(sources).join("\n");
    for (const file of DOCUMENTS) {
      for (const line of prose(file)) {
        for (const [, flag] of line.matchAll(/`(--[a-z-]+)[^`]*`/g))
          expect(
            all.some((each) => hasOption(each, flag!)) || others.includes(flag!),
            `${file}: ${flag}`,
          ).toBe(true);
      }
    }
  });
});

describe("documents", () => {
  it("name the line that the tests are run with unattended", () => {
    const line = read(".ci/run").trim().split("\n").at(-1)!;
    expect(read("README.md")).toContain(`\n${line}\n`);
  });

  it("name the line that shows it", () => {
    expect(read("README.md")).toContain(
      "\n```sh\nsh scripts/setup.sh && npm install && npm run lab -- --once\n```\n",
    );
  });

  it("give a reason for every dependency, and name what is only for building and tests", () => {
    const section = read("README.md").split("\n## Dependencies\n")[1]!.split("\n## ")[0]!;
    const reasons = [...section.matchAll(/^\| `([^`]+)` +\| \S/gm)].map((match) => match[1]!);
    expect(reasons.sort()).toEqual(Object.keys(PACKAGE.dependencies).sort());
    const named = [...section.matchAll(/`([^`]+)`/g)].map((match) => match[1]!);
    expect(named).toEqual(expect.arrayContaining(Object.keys(PACKAGE.devDependencies)));
  });

  it("link to files and headings that are there", () => {
    for (const file of DOCUMENTS) {
      for (const [, target] of prose(file)
        .join("\n")
        .matchAll(/\]\(([^)]+)\)/g)) {
        if (/^https?:/.test(target!)) continue;
        const [path, anchor] = target!.split("#") as [string, string | undefined];
        const wanted = path === "" ? file : normalize(join(dirname(file), path));
        expect(existsSync(join(ROOT, wanted)), `${file}: ${target}`).toBe(true);
        if (anchor !== undefined) expect(anchors(wanted), `${file}: ${target}`).toContain(anchor);
      }
    }
  });

  it("name manifests and scripts that are there", () => {
    for (const file of DOCUMENTS) {
      for (const [, path] of prose(file)
        .join("\n")
        .matchAll(/`((?:manifests|scripts|test|src|bench)\/[\w./-]+)`/g))
        expect(existsSync(join(ROOT, path!)), `${file}: ${path}`).toBe(true);
    }
  });

  it("have an empty line around every heading", () => {
    for (const file of DOCUMENTS) {
      const lines = read(file).split("\n");
      const outside = new Set(prose(file));
      for (const [i, line] of lines.entries()) {
        if (!/^#+ /.test(line) || !outside.has(line)) continue;
        expect([lines[i - 1] ?? "", lines[i + 1]], `${file}: ${line}`).toEqual(["", ""]);
      }
    }
  });

  it("show files that are valid", () => {
    const blocks = fences("docs/agent.md").filter(({ language }) => language === "yaml");
    const [node, services] = blocks.map(({ lines }) => lines.join("\n")) as [string, string];
    const { config } = parseConfig("docs/agent.md", `${node}\n${services}`);
    expect(config.node).toBe("k8s-worker01");
    const images = fences("docs/runtime.md").find(({ language }) => language === "yaml")!;
    expect(() => parseImageTable("docs/runtime.md", images.lines.join("\n"))).not.toThrow();
  });
});

describe("what the documents are read by", () => {
  it("splits command lines", () => {
    expect(words(`tshark -i br0 -f 'udp port 4789'  # a comment`)).toEqual([
      "tshark",
      "-i",
      "br0",
      "-f",
      "udp port 4789",
    ]);
    expect(simpleCommands("cd a && podwire trace x -o svg > y.svg")).toEqual([
      ["cd", "a"],
      ["podwire", "trace", "x", "-o", "svg"],
    ]);
  });

  it("refuses what is no command", async () => {
    const line = (text: string) => checkLine({ place: "x:1", text, prompt: "", output: null });
    await expect(line("podwire statis")).rejects.toThrow("no podwire statis");
    await expect(line("podwire status --jason")).rejects.toThrow("unknown option");
    await expect(line("podwire lab exec k8s-master -- podwire trace pc")).rejects.toThrow("missing required");
    await expect(line("podwire diagram --step five")).rejects.toThrow("invalid");
    await expect(line("npm run lob")).rejects.toThrow("npm run lob");
    await expect(line("npm run bench -- nett")).rejects.toThrow();
    await expect(line("sh scripts/setup.sh tests")).rejects.toThrow();
    await expect(line("kubectl apply -f manifests/lab/no.yaml")).rejects.toThrow("no.yaml");
  });

  it("forgets what differs between runs, and nothing else", () => {
    expect(normalise("nginx-ds-c29dm   1/1     Running   0          5s    10.1.79.65     k8s-worker01")).toBe(
      "nginx-ds-* 1/1 Running *",
    );
    expect(normalise("lb-nginx-ds  n0 16, n1 11, n2 12, n3 12")).toBe("lb-nginx-ds n0 #, n1 #, n2 #, n3 #");
    expect(missing(["a", "…", "c"], "x\na\nb\nc\n")).toBeNull();
    expect(missing(["a", "c"], "x\na\nb\nc\n")).toBe("c");
    expect(missing(["c", "…", "a"], "a\nb\nc\n")).toBe("a");
  });
});
