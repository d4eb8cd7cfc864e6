// Node's reading of each request, sent back in a response field. Prints its port when it listens.
import http from "node:http";

const hex = (text) => Buffer.from(text, "latin1").toString("hex");

const server = http.createServer((request, response) => {
  const body = [];
  request.on("data", (piece) => body.push(piece));
  request.on("end", () => {
    const fields = [];
    for (let at = 0; at < request.rawHeaders.length; at += 2) {
      fields.push(`${hex(request.rawHeaders[at])}:${hex(request.rawHeaders[at + 1])}`);
    }
    const reading = [
      hex(request.method), hex(request.url), Buffer.concat(body).toString("hex"), fields.join(","),
    ];
    response.writeHead(200, { "X-Reading": reading.join("|"), "Content-Length": 2 });
    response.end("ok");
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
