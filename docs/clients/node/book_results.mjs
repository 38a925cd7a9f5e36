// Books what vending machines tell over MQTT: each result once, and no message missed.
//
//     npm ci && node book_results.mjs --host broker.example books.db
//
// A message is acknowledged after it is on the disk. A kill in between brings it again, and a
// repeat changes nothing. A hole in a machine's numbers that stays is asked for.
// Needs Node 22.13, which has SQLite. docs/backend.md tells the rules.

import { readFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { parseArgs } from "node:util";
import mqtt from "mqtt";

const TOPICS = ["result", "order", "state", "response/results"];
const WEEK_S = 7 * 86_400; // the broker keeps messages for us so long, as it does for a machine
const ASK_AGAIN_S = 30; // a request that no machine took in this time is thrown away by the broker
const OUR_REQUEST = /^gap:(\d+):(\d+):(\d+)$/;
const CONSTRAINT = 19; // SQLite: a row that its table does not take

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    host: { type: "string", default: "localhost" },
    port: { type: "string", default: "1883" },
    prefix: { type: "string", default: "vending/v1" },
    "client-id": { type: "string", default: "book-results" },
    patience: { type: "string", default: "2" }, // how long a gap may stand, seconds
  },
});

const db = new DatabaseSync(positionals[0]);
db.exec("PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
db.exec(readFileSync(new URL("../books.sql", import.meta.url), "utf8"));
const statements = new Map();
function sql(text) {
  if (!statements.has(text)) statements.set(text, db.prepare(text));
  return statements.get(text);
}

/** Ids have up to 63 bits; a JavaScript number holds 53. */
function parse(bytes) {
  return JSON.parse(bytes.toString("utf8"), (_key, value, { source }) =>
    typeof value === "number" && /^-?\d+$/.test(source) && !Number.isSafeInteger(value)
      ? BigInt(source)
      : value,
  );
}

/** A `result` or `order` message, however often it comes. */
function book(machineNo, leaf, said) {
  const order = [said.order_id, said.delivery_id];
  if (leaf === "result") {
    const row = [...order, said.unit, said.revision];
    const booked = sql("INSERT INTO result VALUES (?,?,?,?,?,?,?) ON CONFLICT DO NOTHING").run(
      ...row, said.outcome, said.reason, said.finished_at,
    );
    // The first time: refund or charge here, in this transaction.
    if (booked.changes) console.log("booked", row.join(" "), said.outcome);
  } else {
    sql("INSERT INTO command VALUES (?,?,?,?,?,?,?) ON CONFLICT DO NOTHING").run(
      ...order, said.status, said.revision, said.at, said.code, said.command_executed,
    );
  }
  if (said.seq === null) return; // published past a journal that cannot be written
  const place = [machineNo, said.journal];
  sql("INSERT INTO ahead VALUES (?,?,?) ON CONFLICT DO NOTHING").run(...place, said.seq);
  heardOf(place, said.seq);
  goOn(place, 0);
}

/** The machine has numbered so many. */
function heardOf(place, last) {
  sql("INSERT INTO place VALUES (?,?,0,?) ON CONFLICT DO UPDATE SET last = max(last, ?)").run(
    ...place, last, last,
  );
}

/** All up to `through` is known, and what came beyond it without a hole. */
function goOn(place, through) {
  const where = "WHERE machine_no = ? AND journal = ?";
  let { known } = sql(`SELECT max(through, ?) AS known FROM place ${where}`).get(through, ...place);
  while (sql(`SELECT 1 FROM ahead ${where} AND seq = ?`).get(...place, known + 1)) known += 1;
  sql(`DELETE FROM ahead ${where} AND seq <= ?`).run(...place, known);
  sql(`UPDATE place SET through = ? ${where}`).run(known, ...place);
  return known;
}

/** The answer to a request of ours: after it nothing is missing up to where it ends. */
function readPage(machineNo, answer) {
  const ours = OUR_REQUEST.exec(answer.request_id);
  if (ours === null || answer.code !== "ok") return; // somebody else's, or to be asked again
  const [journal, askedFrom, last] = ours.slice(1).map(Number);
  const { topics, messages, next } = answer.data;
  messages.forEach((said, index) => book(machineNo, topics[index], said));
  const end = next !== null && next.journal === journal ? next.seq : last;
  const place = [machineNo, journal];
  const came = goOn(place, 0);
  const beyond = "SELECT count(*) AS n FROM ahead WHERE machine_no = ? AND journal = ? AND seq <= ?";
  const lost = end - came - sql(beyond).get(...place, end).n;
  // Past the machine's retention, or gone with its journal.
  if (askedFrom && lost > 0) {
    console.log("never to come", ...place, `${lost} of ${came + 1}..${end}`);
  }
  goOn(place, end);
}

/** One message, in one transaction. Throws where the file cannot be written. */
function take(packet) {
  const [machineNo, ...leaves] = packet.topic.slice(options.prefix.length + 1).split("/");
  const leaf = leaves.join("/");
  db.exec("BEGIN");
  try {
    const said = parse(packet.payload);
    if (leaf === "response/results") readPage(machineNo, said);
    else if (leaf !== "state") book(machineNo, leaf, said);
    else if (said.journal !== null) heardOf([machineNo, said.journal], said.last_seq ?? 0);
    db.exec("COMMIT");
  } catch (error) {
    if (error.code === "ERR_SQLITE_ERROR" && (error.errcode & 255) !== CONSTRAINT) throw error;
    db.exec("ROLLBACK");
    console.log("unreadable", packet.topic, String(error));
  }
}

/** Ask for each gap that stood since the last look: `order` and `result` overtake each other. */
let stood = new Map();
function ask() {
  const gaps = sql("SELECT * FROM place WHERE through < last").all();
  for (const { machine_no, journal, through, last } of gaps) {
    if (stood.get(`${machine_no} ${journal}`) !== through || !client.connected) continue;
    const request_id = `gap:${journal}:${through}:${last}`;
    const request = JSON.stringify({ request_id, journal, seq: through, limit: 200 });
    const properties = { messageExpiryInterval: ASK_AGAIN_S };
    client.publish(`${options.prefix}/${machine_no}/request/results`, request, { qos: 1, properties });
  }
  stood = new Map(gaps.map((gap) => [`${gap.machine_no} ${gap.journal}`, gap.through]));
}

const client = mqtt.connect(`mqtt://${options.host}:${options.port}`, {
  clientId: options["client-id"],
  protocolVersion: 5,
  clean: false,
  properties: { sessionExpiryInterval: WEEK_S },
  resubscribe: false,
});
client.on("connect", () =>
  client.subscribe(TOPICS.map((topic) => `${options.prefix}/+/${topic}`), { qos: 1 }),
);
client.on("error", (error) => console.error("broker:", error.message)); // it tries again
// mqtt.js sends PUBACK when `done` is called.
client.handleMessage = (packet, done) => {
  take(packet);
  done();
};
setInterval(ask, Number(options.patience) * 1000);
