// What Prisma, and pg below it, do to their sessions, through Headpond.
'use strict'

const assert = require('node:assert/strict')
const { createHash } = require('node:crypto')
const { Client, Pool } = require('pg')
const Cursor = require('pg-cursor')
const { PrismaPg } = require('@prisma/adapter-pg')
const { PrismaClient } = require('client')

const modes = ['direct', 'session', 'transaction']
const PID = 'SELECT pg_backend_pid()::text'

const login = (mode) => ({
  host: '127.0.0.1',
  port: Number(process.env[`${mode.toUpperCase()}_PORT`]),
  user: 'postgres',
  database: 'postgres',
  application_name: 'prisma',
})

// Runs `work` with a Prisma of `max` connections, each of which has run the statements of `connect`.
async function withPrisma(mode, work, { max = 1, connect = [], ...options } = {}) {
  const onConnect = async (client) => {
    for (const statement of connect) await client.query(statement)
  }
  const pool = new Pool({ ...login(mode), max, onConnect })
  const prisma = new PrismaClient({ adapter: new PrismaPg(pool, { disposeExternalPool: true, ...options }) })
  try {
    return await work(prisma)
  } finally {
    await prisma.$disconnect()
    if (!pool.ended) await pool.end()
  }
}

async function withClient(mode, work) {
  const client = new Client(login(mode))
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

// The one value that a query of Prisma, or of a transaction of it, or of pg has.
const of = (prisma) => async (query) => Object.values((await prisma.$queryRawUnsafe(query))[0])[0]
const ofClient = (client) => async (query) => Object.values((await client.query(query)).rows[0])[0]

// Nothing keeps a client's transactions together.
async function moves(mode, ask) {
  const first = await ask(PID)
  let moved = false
  for (let turn = 0; turn < (mode === 'transaction' ? 2000 : 4) && !moved; turn++) moved = (await ask(PID)) !== first
  assert.equal(moved, mode === 'transaction', 'it moves')
}

// All transactions of a client are on one connection, for this reason.
async function stays(mode, ask, reason) {
  const first = await ask(PID)
  for (let turn = 0; turn < 5; turn++) assert.equal(await ask(PID), first)
  if (mode !== 'transaction') return
  assert.ok(await isShown(await ask("SELECT current_setting('application_name')"), reason), `pinned by ${reason}`)
}

// Whether the console comes to say that an application is pinned so. One without the command says yes.
async function isShown(name, reason) {
  const client = new Client({ ...login('transaction'), database: 'headpond' })
  await client.connect()
  try {
    for (let turn = 0; turn < 5000; turn++) {
      const { rows } = await client.query('SHOW PINS')
      if (rows.some((row) => row.application_name === name && row.reasons.includes(reason))) return true
    }
    return false
  } catch {
    return true
  } finally {
    await client.end()
  }
}

// Six of them at the same time.
const together = (work) => Promise.all([0, 1, 2, 3, 4, 5].map(work))

async function makeBooks(mode, count) {
  await withClient(mode, async (client) => {
    await client.query('DROP TABLE IF EXISTS prisma_book')
    await client.query('CREATE TABLE prisma_book (id serial PRIMARY KEY, title text NOT NULL)')
    await client.query('INSERT INTO prisma_book (title) SELECT n FROM generate_series(0, $1::int - 1) n', [count])
  })
}

async function findsEachBook(mode, options) {
  await makeBooks(mode, 6)
  await withPrisma(mode, async (prisma) => {
    await together(async (number) => {
      for (let turn = 0; turn < 10; turn++) {
        const title = String((number + turn) % 6)
        const book = await prisma.book.findFirst({ where: { title } })
        assert.equal((await prisma.book.findUnique({ where: { id: book.id } })).title, title)
        await prisma.book.update({ where: { id: book.id }, data: { title } })
      }
    })
  }, { max: 6, ...options })
  await withPrisma(mode, (prisma) => moves(mode, of(prisma)), options)
}

const claims = {
  'settings of a connect event follow each connection': (mode) => {
    const connect = ["SET search_path = 'shelf'", "SET statement_timeout = '9s'", "SET TimeZone = 'Asia/Tokyo'"]
    return withPrisma(mode, (own) => withPrisma(mode, async (plain) => {
      await together(async (number) => {
        const ask = of(number % 2 ? own : plain)
        for (let turn = 0; turn < 20; turn++) {
          assert.equal(await ask('SHOW search_path'), number % 2 ? 'shelf' : '"$user", public')
          assert.equal(await ask('SHOW statement_timeout'), number % 2 ? '9s' : '0')
          if (number % 2) assert.equal(await ask('SHOW timezone'), 'Asia/Tokyo')
        }
      })
      await moves(mode, of(plain))
    }, { max: 3 }), { max: 3, connect })
  },

  'a tenant is set for its transaction alone, or follows its connection': async (mode) => {
    await withPrisma(mode, (other) => withPrisma(mode, async (prisma) => {
      const tenant = "SELECT current_setting('app.tenant', true) AS t"
      await prisma.$transaction(async (tx) => {
        await tx.$executeRaw`SELECT set_config('app.tenant', ${'7'}, TRUE)`
        assert.equal(await of(tx)(tenant), '7')
      })
      await prisma.$executeRaw`SELECT set_config('app.tenant', ${'8'}, FALSE)`
      for (let turn = 0; turn < 4; turn++) {
        assert.equal(await of(prisma)(tenant), '8')
        assert.ok(!(await of(other)(tenant)))
      }
      await moves(mode, of(prisma))
    }))
  },

  'what pg prepares without a name is found': (mode) => findsEachBook(mode, {}),

  'statements with names are found': (mode) => {
    const statementNameGenerator = ({ sql }) => createHash('md5').update(sql).digest('hex')
    return findsEachBook(mode, { statementNameGenerator })
  },

  'a transaction is of its isolation, and takes back what it set': async (mode) => {
    await makeBooks(mode, 1)
    await withPrisma(mode, async (prisma) => {
      const work = prisma.$transaction(async (tx) => {
        assert.equal(await of(tx)('SHOW transaction_isolation'), 'serializable')
        await tx.$executeRawUnsafe("SET LOCAL work_mem = '5MB'")
        await tx.$executeRawUnsafe('SAVEPOINT before')
        await tx.$executeRawUnsafe("SET LOCAL work_mem = '6MB'")
        await tx.$executeRawUnsafe("SET statement_timeout = '8s'")
        await tx.$executeRawUnsafe('ROLLBACK TO before')
        assert.equal(await of(tx)('SHOW work_mem'), '5MB')
        await tx.book.create({ data: { title: 'lost' } })
        await tx.$executeRawUnsafe("SET search_path = 'lost'")
        throw new Error('thought better of it')
      }, { isolationLevel: 'Serializable' })
      await assert.rejects(work, /thought better/)
      for (let turn = 0; turn < 4; turn++) {
        assert.equal(await of(prisma)('SHOW transaction_isolation'), 'read committed')
        assert.equal(await of(prisma)('SHOW work_mem'), '4MB')
        assert.equal(await of(prisma)('SHOW statement_timeout'), '0')
        assert.equal(await of(prisma)('SHOW search_path'), '"$user", public')
      }
      assert.equal(await prisma.book.count(), 1)
      await moves(mode, of(prisma))
    })
  },

  'keys of new rows are their own': async (mode) => {
    await makeBooks(mode, 1)
    await withPrisma(mode, async (prisma) => {
      await together(async (number) => {
        for (let turn = 0; turn < 20; turn++) {
          const titles = [`${number}/${turn}/a`, `${number}/${turn}/b`]
          const books = await prisma.$transaction(titles.map((title) => prisma.book.create({ data: { title } })))
          for (const { id, title } of books) assert.equal((await prisma.book.findUnique({ where: { id } })).title, title)
        }
      })
      assert.equal(await prisma.book.count(), 241)
    }, { max: 6 })
  },

  // Prisma's migrations take it so, and leave without giving it back.
  'a migration lock pins until its client leaves': (mode) =>
    withPrisma(mode, async (prisma) => {
      const free = () => of(prisma)('SELECT pg_try_advisory_xact_lock(72707369)')
      await withClient(mode, async (client) => {
        await client.query('SELECT pg_advisory_lock(72707369)')
        await client.query('CREATE TABLE IF NOT EXISTS _prisma_migrations (id text); DROP TABLE _prisma_migrations')
        await stays(mode, ofClient(client), 'advisory_locks')
        assert.equal(await free(), false)
        await moves(mode, of(prisma))
      })
      for (let turn = 0; turn < 2000 && !(await free()); turn++);
      assert.equal(await free(), true)
    }),

  'a temporary table pins until it is dropped': (mode) =>
    withPrisma(mode, async (prisma) => {
      await prisma.$executeRaw`CREATE TEMP TABLE basket (n int)`
      await stays(mode, of(prisma), 'temporary_objects')
      await prisma.$executeRaw`INSERT INTO basket VALUES (${3})`
      assert.equal(await of(prisma)('SELECT n FROM basket'), 3)
      await prisma.$executeRaw`DROP TABLE basket`
      await moves(mode, of(prisma))
    }),

  'a listener pins until it no longer listens': (mode) =>
    withClient(mode, (client) => withPrisma(mode, async (prisma) => {
      const heard = new Promise((resolve) => client.on('notification', ({ payload }) => resolve(payload)))
      await client.query('LISTEN news')
      await stays(mode, ofClient(client), 'listen')
      await prisma.$executeRaw`SELECT pg_notify('news', ${'hello'})`
      assert.equal(await heard, 'hello')
      await client.query('UNLISTEN news')
      await moves(mode, ofClient(client))
    })),

  'a cursor that is read in pieces keeps its connection until it is closed': async (mode) => {
    await makeBooks(mode, 50)
    await withClient(mode, async (client) => {
      const cursor = client.query(new Cursor('SELECT id FROM prisma_book WHERE id > $1 ORDER BY id', [0]))
      assert.deepEqual((await cursor.read(2)).map(({ id }) => id), [1, 2])
      await withPrisma(mode, (prisma) => moves(mode, of(prisma)))
      assert.deepEqual((await cursor.read(2)).map(({ id }) => id), [3, 4])
      await cursor.close()
      await moves(mode, ofClient(client))
    })
  },
}

async function main() {
  let passed = 0
  let failed = 0
  for (const [claim, holds] of Object.entries(claims)) {
    for (const mode of modes) {
      try {
        await holds(mode)
        passed += 1
      } catch (error) {
        failed += 1
        console.log(`FAILED ${claim}, ${mode}:`, error)
      }
    }
  }
  console.log(`orm-node: ${passed} passed, ${failed} failed`)
  process.exitCode = failed > 0 ? 1 : 0
}

main()
