/** What run.ts tells the files, each of which is a process: where the suite goes. */
const VARIABLE = "PODWIRE_ACCEPTANCE";
/** The environment for a file of the suite. */
export function environmentOf(settings) {
    return { [VARIABLE]: JSON.stringify(settings) };
}
/** What run.ts has put there. Throws an Error where a file is started by itself. */
export function settingsOf(env) {
    const text = env[VARIABLE];
    if (text === undefined)
        throw new Error("run the suite by npm run acceptance -- --target lab|vagrant|ssh");
    return JSON.parse(text);
}
//# sourceMappingURL=settings.js.map