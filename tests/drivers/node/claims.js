// What a Node.js application does with pg, through Headpond.
'use strict'

const assert = require('node:assert/strict')
const { Client, Pool } = require('pg')

const ports = { session: process.env.SESSION_PORT, transaction: process.env.TRANSACTION_PORT }
const login = (mode) => ({ host: '127.0.0.1', port: Number(ports[mode]), user: 'postgres', database: 'postgres' })

// Runs `work` with a client, which leaves afterwards.
async function withClient(mode, work) {
  const client = new Client(login(mode))
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

async function aQueryTakesParameters(mode) {
  await withClient(mode, async (client) => {
    const { rows } = await client.query('SELECT $1::int + 1 AS n, $2::text AS t, $3::bytea AS b', [41, 'ö', Buffer.from([0, 255])])
    assert.deepEqual(rows, [{ n: 42, t: 'ö', b: Buffer.from([0, 255]) }])
  })
}

async function aTransactionCommitsOrNotAtAll(mode) {
  await withClient(mode, async (client) => {
    await client.query('CREATE TABLE IF NOT EXISTS node (n int); TRUNCATE node')
    for (const [end, number] of [['COMMIT', 1], ['ROLLBACK', 2]]) {
      await client.query('BEGIN')
      await client.query('INSERT INTO node VALUES ($1)', [number])
      await client.query(end)
    }
    const { rows } = await client.query('SELECT n FROM node')
    assert.deepEqual(rows, [{ n: 1 }])
  })
}

async function anErrorIsNotTheEnd(mode) {
  await withClient(mode, async (client) => {
    await assert.rejects(client.query('SELEC'), { code: '42601' })
    await assert.rejects(client.query('SELECT 1 / $1::int', [0]), { code: '22012' })
    assert.equal((await client.query('SELECT 1 AS n')).rows[0].n, 1)
  })
}

async function aPreparedStatementIsUsedAgain(mode) {
  await withClient(mode, async (client) => {
    for (let number = 0; number < 20; number++) {
      const { rows } = await client.query({ name: 'double', text: 'SELECT $1::int * 2 AS n', values: [number] })
      assert.equal(rows[0].n, number * 2)
    }
  })
}

async function queriesWaitTheirTurn(mode) {
  await withClient(mode, async (client) => {
    const numbers = [...Array(200).keys()]
    const answers = await Promise.all(numbers.map((number) => client.query('SELECT $1::int AS n', [number])))
    assert.deepEqual(answers.map((answer) => answer.rows[0].n), numbers)
  })
}

async function aCancelEndsTheQuery(mode) {
  await withClient(mode, (client) =>
    withClient(mode, async (other) => {
      const outcome = client.query('SELECT pg_sleep(100000)').then(() => undefined, (error) => error.code)
      const asleep = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
      while ((await other.query(asleep)).rowCount === 0);
      const canceller = new Client(login(mode))
      canceller.cancel(client, client.activeQuery)
      assert.equal(await outcome, '57014')
      assert.equal((await client.query('SELECT 1 AS n')).rows[0].n, 1)
    }),
  )
}

async function fiftyClientsShareFewConnections(mode) {
  const pool = new Pool({ ...login(mode), max: 50 })
  const work = async (number) => {
    const { rows } = await pool.query('SELECT $1::int AS n', [number])
    assert.equal(rows[0].n, number)
  }
  await Promise.all([...Array(1000).keys()].map(work))
  await pool.end()
}

async function main() {
  const modes = Object.keys(ports)
  const claims = new Map([
    [aQueryTakesParameters, modes],
    [aTransactionCommitsOrNotAtAll, modes],
    [anErrorIsNotTheEnd, modes],
    [aPreparedStatementIsUsedAgain, ['session']],
    [queriesWaitTheirTurn, modes],
    [aCancelEndsTheQuery, modes],
    [fiftyClientsShareFewConnections, modes],
  ])
  let passed = 0
  let failed = 0
  for (const [claim, modes] of claims) {
    for (const mode of modes) {
      try {
        await claim(mode)
        passed += 1
      } catch (error) {
        failed += 1
        console.log(`FAILED ${claim.name}, ${mode}:`, error)
      }
    }
  }
  console.log(`node: ${passed} passed, ${failed} failed`)
  process.exitCode = failed > 0 ? 1 : 0
}

main()
