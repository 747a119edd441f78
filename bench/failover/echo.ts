/**
 * A program of its own, run in a pod: `node echo.js PORT NAME` says NAME and a line feed to every TCP
 * connection, and then all that it hears.
 */

import { createServer } from "node:net";

const [port, name] = process.argv.slice(2);
createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
  socket.on("error", () => socket.destroy());
  socket.write(`${name}\n`);
  socket.pipe(socket);
}).listen(Number(port), "0.0.0.0");
