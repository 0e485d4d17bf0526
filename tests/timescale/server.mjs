// A real TimescaleDB (PostgreSQL compiled to WASM) behind TCP, for the tests.
//
// Each database is an engine of its own with one session, so one client at a time is served and the others
// wait their turn, no longer than --queue-ms. Commands come as JSON lines on stdin, answers go to stdout:
//   {"id": 1, "do": "create", "name": "a", "template": "b"}   a new database, empty or a copy of an idle one;
//                                                              with "community": false the Apache edition
//   {"id": 2, "do": "drop", "name": "a"}
//   {"id": 3, "do": "clock", "offset_ms": 86400000}           what now() says is moved by so much
// The server ends when its stdin does, so that it never outlives the test run.
import net from 'node:net'
import readline from 'node:readline'
import { Database } from './database.mjs'
import { Session } from './session.mjs'

const argument = (name, fallback) => {
  const at = process.argv.indexOf(name)
  return at < 0 ? fallback : process.argv[at + 1]
}
const queueMs = Number(argument('--queue-ms', '60000'))

// The engine asks Date.now() for the time: moving it moves now(), and with it every policy.
let offset = 0
const realNow = Date.now.bind(Date)
Date.now = () => realNow() + offset

const databases = new Map()

const commands = {
  async create({ name, template, community }) {
    if (databases.has(name)) throw new Error(`database ${name} exists already`)
    const source = template === undefined ? undefined : databases.get(template)
    if (template !== undefined && source === undefined) throw new Error(`no database ${template}`)
    databases.set(name, await Database.open(source && (await source.dump()), community))
  },
  async drop({ name }) {
    const database = databases.get(name)
    if (database === undefined) throw new Error(`no database ${name}`)
    databases.delete(name)
    await database.close()
  },
  async clock({ offset_ms: moved }) {
    offset = moved
  },
}

const server = net.createServer((socket) => {
  socket.setNoDelay(true)
  new Session(socket, (name) => databases.get(name), queueMs).run()
})

server.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ ready: true, port: server.address().port }))
})

const lines = readline.createInterface({ input: process.stdin })
let last = Promise.resolve()
lines.on('line', (line) => {
  const request = JSON.parse(line)
  // In order, one after the other: a copy must not start before its template is complete.
  last = last.then(async () => {
    try {
      await commands[request.do](request)
      console.log(JSON.stringify({ id: request.id, ok: true }))
    } catch (error) {
      console.log(JSON.stringify({ id: request.id, error: String(error?.message ?? error) }))
    }
  })
})
lines.on('close', () => process.exit(0))
