/**
 * Tokens with which nodes join: "ID.SECRET" as Kubernetes' bootstrap tokens. Only a hash of the secret is
 * kept, each in a file of its own that is read anew for every check, so that `podwire token` works beside
 * a running server and beside itself.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { writePrivate } from "../pki/ClusterCa.js";

const record = z.object({
  id: z.string(),
  hash: z.string(),
  expires: z.string(),
  description: z.string(),
});

/** What is known of a token; never the secret. */
export type TokenRecord = z.infer<typeof record>;

const TOKEN = /^([a-z0-9]{6})\.([a-z0-9]{16})$/;
const ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789";

const SUFFIX = ".json";

export class JoinTokens {
  private readonly directory: string;

  /** @param dataDir the API server's; tokens lie in tokens/ID.json */
  constructor(
    dataDir: string,
    private readonly now: () => number = Date.now,
  ) {
    this.directory = join(dataDir, "tokens");
  }

  /** Makes a token that is good for `seconds`; this is the only time its text is known. */
  create(seconds: number, description = ""): string {
    const id = randomText(6);
    const secret = randomText(16);
    const expires = new Date(this.now() + seconds * 1000).toISOString();
    const made: TokenRecord = { id, hash: hashOf(id, secret), expires, description };
    mkdirSync(this.directory, { recursive: true, mode: 0o700 });
    for (const old of this.all()) if (!this.isGood(old)) rmSync(this.file(old.id), { force: true });
    writePrivate(this.file(id), `${JSON.stringify(made, null, 2)}\n`);
    return `${id}.${secret}`;
  }

  /** Tokens that are still good. */
  list(): TokenRecord[] {
    return this.all().filter((each) => this.isGood(each));
  }

  /** Takes a token by its id or whole text; false where there is none. */
  delete(token: string): boolean {
    const id = token.split(".")[0]!;
    if (!this.list().some((each) => each.id === id)) return false;
    rmSync(this.file(id), { force: true });
    return true;
  }

  /** The id of a good token; undefined for any other text. */
  verify(token: string): string | undefined {
    const match = TOKEN.exec(token);
    if (match === null) return undefined;
    const [, id, secret] = match;
    const known = this.list().find((each) => each.id === id);
    if (known === undefined) return undefined;
    const equal = timingSafeEqual(Buffer.from(known.hash, "hex"), Buffer.from(hashOf(id!, secret!), "hex"));
    return equal ? id : undefined;
  }

  private isGood({ expires }: TokenRecord): boolean {
    return Date.parse(expires) > this.now();
  }

  private all(): TokenRecord[] {
    return entriesOf(this.directory)
      .filter((name) => name.endsWith(SUFFIX))
      .sort()
      .flatMap((name) => {
        const text = textOf(join(this.directory, name));
        return text === null ? [] : [record.parse(JSON.parse(text))];
      });
  }

  private file(id: string): string {
    return join(this.directory, `${id}${SUFFIX}`);
  }
}

function entriesOf(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

/** Null where it was deleted meanwhile. */
function textOf(file: string): string | null {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

/** 82 bits of secret need no slow hash. */
function hashOf(id: string, secret: string): string {
  return createHash("sha256").update(`${id}.${secret}`).digest("hex");
}

function randomText(length: number): string {
  let text = "";
  while (text.length < length)
    // 252 is the largest multiple of 36 in a byte: every character is equally likely.
    for (const byte of randomBytes(length))
      if (byte < 252 && text.length < length) text += ALPHABET[byte % ALPHABET.length];
  return text;
}
