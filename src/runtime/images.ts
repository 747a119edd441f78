/**
 * What an image name means on this node: a program of the host's and the files it needs. The table is
 * built in (DEFAULT_IMAGES) and extended or overruled by a file in YAML. Pure but for the one reader.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { z } from "zod";

const absolute = z.string().regex(/^\/(?!.*(^|\/)\.\.(\/|$))/, "must be an absolute path without ..");

const imageSchema = z.strictObject({
  /** The program, as an image's ENTRYPOINT; a Pod's `command` takes its place. */
  command: z.array(z.string()).default([]),
  /** Its arguments, as an image's CMD; a Pod's `args` take their place. */
  args: z.array(z.string()).default([]),
  /** {podName} and {nodeName} in a value stand for the pod's own. */
  env: z.record(z.string(), z.string()).default({}),
  workingDir: absolute.default("/"),
  /** UID, or UID:GID. */
  user: z
    .string()
    .regex(/^\d+(:\d+)?$/, "must be UID or UID:GID, as numbers")
    .default("0"),
  /** What asks the program to end. */
  stopSignal: z
    .string()
    .regex(/^SIG[A-Z0-9]+$/, "must be the name of a signal, e.g. SIGTERM")
    .default("SIGTERM"),
  /** Files in the container, path to content, with the same. */
  files: z.record(absolute, z.string()).default({}),
  /** Directories in the container that belong to `user`. */
  directories: z.array(absolute).default([]),
  /** Files and directories of the host's that the container sees, read-only: path in the container to path here. */
  mounts: z.record(absolute, absolute).default({}),
});

/** What runs for one image. */
export type ImageEntry = z.infer<typeof imageSchema>;

/** Entries by image name: "nginx" for every tag, "nginx:1.25" for that one. */
export type ImageTable = Readonly<Record<string, ImageEntry>>;

const tableSchema = z.strictObject({ images: z.record(z.string().min(1), imageSchema) });

/** Where the table is looked for by default; it need not exist. */
export const DEFAULT_IMAGE_FILE = "/etc/podwire/images.yaml";

const PAGE = "{podName} on {nodeName}\n";

/**
 * One process of one user: a master would change to another one, and own its directories, which a user
 * namespace with one identity forbids.
 */
const NGINX_CONFIG = `daemon off;
master_process off;
user root;
pid /run/nginx.pid;
error_log stderr;
events { worker_connections 256; }
http {
  access_log /dev/stdout;
  client_body_temp_path /tmp/body;
  proxy_temp_path /tmp/proxy;
  fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi;
  scgi_temp_path /tmp/scgi;
  default_type text/plain;
  server {
    listen 80;
    root /srv/www;
    index index.txt;
  }
}
`;

const APACHE_UID = "33:33";

function apacheConfig(l4Port: number): string {
  const modules = "/usr/lib/apache2/modules";
  return `ServerRoot "/etc/apache2"
ServerName localhost
DefaultRuntimeDir "/run/apache2"
PidFile "/run/apache2/apache2.pid"
Mutex file:/run/apache2
LoadModule mpm_event_module ${modules}/mod_mpm_event.so
LoadModule authz_core_module ${modules}/mod_authz_core.so
LoadModule dir_module ${modules}/mod_dir.so
ServerLimit 1
StartServers 1
ThreadsPerChild 16
ThreadLimit 16
MinSpareThreads 1
MaxSpareThreads 16
MaxRequestWorkers 16
Listen 0.0.0.0:${l4Port}
ErrorLog /dev/stderr
LogFormat "%h %r %>s" short
CustomLog /dev/stdout short
DocumentRoot "/srv/www"
DirectoryIndex index.txt
<Directory "/srv/www">
  Require all granted
</Directory>
`;
}

function entry(fields: z.input<typeof imageSchema>): ImageEntry {
  return imageSchema.parse(fields);
}

function apache(l4Port: number): ImageEntry {
  return entry({
    command: ["apache2"],
    args: ["-d", "/etc/apache2", "-f", "/etc/apache2/podwire.conf", "-D", "FOREGROUND"],
    user: APACHE_UID,
    stopSignal: "SIGWINCH",
    files: { "/etc/apache2/podwire.conf": apacheConfig(l4Port), "/srv/www/index.txt": PAGE },
    directories: ["/run/apache2"],
  });
}

const ECHO_PROGRAM = fileURLToPath(new URL("./echoServer.js", import.meta.url));

/** The built-in table. */
export const DEFAULT_IMAGES: ImageTable = {
  nginx: entry({
    command: ["nginx"],
    args: ["-c", "/etc/nginx/nginx.conf"],
    stopSignal: "SIGQUIT",
    files: { "/etc/nginx/nginx.conf": NGINX_CONFIG, "/srv/www/index.txt": PAGE },
    directories: ["/var/lib/nginx", "/var/log/nginx"],
  }),
  httpd: apache(80),
  "shotaohtsuka/my-httpd-image": apache(90),
  redis: entry({
    command: ["redis-server"],
    args: [
      "--bind",
      "0.0.0.0",
      "--protected-mode",
      "no",
      "--save",
      "",
      "--appendonly",
      "no",
      "--dir",
      "/data",
    ],
    workingDir: "/data",
    user: "65534:65534",
    directories: ["/data"],
  }),
  /** HTTP on $PORT or 8080: says which pod on which node answered whom. */
  "podwire/echo": entry({
    command: ["/podwire/node", "/podwire/echo.mjs"],
    user: "65534:65534",
    env: { NODE_NAME: "{nodeName}" },
    mounts: { "/podwire/node": process.execPath, "/podwire/echo.mjs": ECHO_PROGRAM },
  }),
  /** A shell and whatever else the host has in its PATH. */
  busybox: entry({ args: ["sh"] }),
};

/** The table cannot be used; the message names file and field. */
export class ImageTableError extends Error {
  override readonly name = "ImageTableError";
}

/**
 * The built-in table with a file's entries over it. A file that is not there adds nothing, unless
 * `required`. Throws an ImageTableError.
 */
export function readImageTable(file: string, required: boolean): ImageTable {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT" && !required) return DEFAULT_IMAGES;
    throw new ImageTableError(`${file} cannot be read: ${(error as Error).message}`);
  }
  return { ...DEFAULT_IMAGES, ...parseImageTable(file, text) };
}

/** Entries of a table's text. Throws an ImageTableError with every problem. */
export function parseImageTable(file: string, text: string): ImageTable {
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    throw new ImageTableError(`${file}: ${(error as Error).message}`);
  }
  const result = tableSchema.safeParse(value);
  if (result.success)
    return Object.fromEntries(
      Object.entries(result.data.images).map(([name, each]) => [shortName(name), each]),
    );
  const problems = result.error.issues.map(({ path, message }) => `${file}: ${path.join(".")}: ${message}`);
  throw new ImageTableError(problems.join("\n"));
}

/** The entry of an image as a Pod names it, with tag before without; null without one. */
export function findImage(table: ImageTable, image: string): ImageEntry | null {
  const name = shortName(image.replace(/@.*$/, ""));
  const own = (key: string) => (Object.hasOwn(table, key) ? table[key]! : null);
  return own(name) ?? own(name.replace(/:[^/:]*$/, ""));
}

/** Without Docker Hub's registry and its "library/", nor the tag that is meant without one. */
function shortName(image: string): string {
  return image
    .replace(/^(index\.)?docker\.io\//, "")
    .replace(/^library\//, "")
    .replace(/:latest$/, "");
}
