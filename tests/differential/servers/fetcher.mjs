// Node's reading of each response of a server: fetcher.mjs PORT METHOD... prints one line each.
import http from "node:http";

const hex = (text) => Buffer.from(text, "latin1").toString("hex");
const [port, ...methods] = process.argv.slice(2);

function read(number, method) {
  return new Promise((resolve) => {
    const options = { port, method, path: `/${number}`, host: "127.0.0.1", agent: false, timeout: 3000 };
    const request = http.request(options, (response) => {
      const body = [];
      response.on("data", (piece) => body.push(piece));
      response.on("error", () => resolve("-"));
      response.on("end", () => {
        const fields = [];
        for (let at = 0; at < response.rawHeaders.length; at += 2) {
          fields.push(`${hex(response.rawHeaders[at])}:${hex(response.rawHeaders[at + 1])}`);
        }
        const text = Buffer.concat(body).toString("hex");
        resolve([response.statusCode, text, fields.join(",")].join("|"));
      });
    });
    request.on("timeout", () => request.destroy());
    request.on("error", () => resolve("-"));
    request.end();
  });
}

for (const [number, method] of methods.entries()) {
  console.log(await read(number, method));
}
