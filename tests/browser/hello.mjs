// Checks the page of examples/hello in a real browser, from the first connection to a push and a lost connection; see
// support.mjs for how it is run.

import assert from 'node:assert/strict'
import { copyFile, rm } from 'node:fs/promises'
import path from 'node:path'
import { assert_fits, open, PLUGIN, PLUGINS_DIR, run, shoot, state, with_gateway } from './support.mjs'

const line = (page, kind, words) => page.locator(`li.${kind}`).filter({ hasText: words }).last().waitFor()

async function send(page, words) {
  await page.getByLabel('Message', { exact: true }).fill(words)
  await page.getByRole('button', { name: 'Send' }).click()
}

async function push(page, words) {
  await page.getByLabel('Message to push').fill(words)
  await page.getByRole('button', { name: 'Push' }).click()
}

/** Sends a message again and again until the answer is the one that is waited for. */
async function sendUntil(page, words, expected) {
  const deadline = Date.now() + 10_000
  for (;;) {
    const before = await page.locator('li.answer').count()
    await send(page, words)
    await page.locator('li.answer').nth(before).waitFor()
    const answer = await page.locator('li.answer').nth(before).textContent()
    if (expected.test(answer)) return
    assert(Date.now() < deadline, `the answer is still: ${answer}`)
  }
}

const checks = {
  async 'a message is answered by PHP, and PHP pushes'(browser) {
    const { page, problems, close } = await open(browser)
    await state(page, 'Connected')
    assert(await page.getByRole('button', { name: 'Push' }).isDisabled(), 'no push before the id is known')
    await shoot(page, 'connected')

    await send(page, 'name')
    await line(page, 'answer', /Orville to \S+$/)
    await send(page, '')
    await line(page, 'answer', /default to \S+$/)
    const id = await page.locator('#client-id').textContent()
    assert.match(await page.locator('li.answer').last().textContent(), new RegExp(` to ${id}$`))

    await push(page, 'hello from PHP')
    await line(page, 'push', 'hello from PHP')
    await state(page, 'PHP says: Message sent')

    // What a form, a shell and HTML each give a meaning to arrives as it was written.
    const odd = '50% & "more" = $(id) \'+1\' <img src=x onerror=alert(1)> 翼 🪽'
    await push(page, odd)
    await line(page, 'push', odd)
    assert.equal(await page.locator('#log img').count(), 0)

    await page.emulateMedia({ colorScheme: 'light' })
    await shoot(page, 'light')
    await page.emulateMedia({ colorScheme: 'dark' })
    await shoot(page, 'dark')
    assert.deepEqual(problems, [])
    await close()
  },

  async 'two pages have an id each, and a push reaches one of them'(browser) {
    const [one, two] = [await open(browser), await open(browser)]
    for (const { page } of [one, two]) {
      await state(page, 'Connected')
      await send(page, 'name')
      await line(page, 'answer', 'Orville')
    }
    assert.notEqual(
      await one.page.locator('#client-id').textContent(),
      await two.page.locator('#client-id').textContent(),
    )
    await push(one.page, 'only for one')
    await line(one.page, 'push', 'only for one')
    // An answer that comes after the push: had the push gone here too, it would be here by now.
    await send(two.page, 'and now')
    await line(two.page, 'answer', 'default')
    assert.equal(await two.page.locator('li.push').count(), 0)
    await one.close()
    await two.close()
  },

  async 'it fits a narrow screen'(browser) {
    const { page, close } = await open(browser, { viewport: { width: 360, height: 740 } })
    await state(page, 'Connected')
    await send(page, 'name')
    await line(page, 'answer', 'Orville')
    await assert_fits(page)
    await shoot(page, 'narrow')
    await close()
  },

  async 'a lost connection comes back, with a new id'(browser) {
    const cut = []
    const { page, problems, close } = await open(browser, {
      // The connection goes through to the gateway; this only allows to cut it.
      before: (page) => page.routeWebSocket(/\/ws$/, (socket) => {
        socket.connectToServer()
        cut.push(() => socket.close({ code: 1001, reason: 'gone' }))
      }),
    })
    await state(page, 'Connected')
    await send(page, 'name')
    await line(page, 'answer', 'Orville')
    cut[0]()
    await state(page, 'The gateway has shut down.')
    await page.getByText('not known yet').waitFor()
    assert(await page.getByRole('button', { name: 'Send' }).isDisabled())
    await shoot(page, 'lost')
    await state(page, 'Connected')
    await send(page, 'back')
    await line(page, 'answer', 'default')
    assert.deepEqual(problems, [])
    await close()
  },

  async 'no gateway, a wrong address and a wrong id are said in plain words'(browser) {
    const dead = await open(browser, { address: with_gateway('ws://127.0.0.1:9/ws') })
    await state(dead.page, 'No gateway answers at ws://127.0.0.1:9/ws. Is it running?')
    await dead.page.getByText(/^Next try in \d+ s$/).waitFor()
    await shoot(dead.page, 'unreachable')
    await dead.close()

    const wrong = await open(browser, { address: with_gateway('nonsense://') })
    await state(wrong.page, 'is not the address of a WebSocket')
    assert.deepEqual(wrong.problems, [])
    await wrong.close()

    const { page, close } = await open(browser, {
      before: (page) => page.route('**/websocket.php', (route) =>
        route.continue({ postData: 'type=client&client_id=nobody&message=lost' })),
    })
    await state(page, 'Connected')
    await send(page, 'name')
    await line(page, 'answer', 'Orville')
    await push(page, 'lost')
    await state(page, 'Not pushed. PHP says:')
    await close()
  },
}

if (PLUGIN) {
  checks['a plugin that is dropped in answers at once, and PHP again when it is gone'] = async (browser) => {
    const { page, problems, close } = await open(browser)
    const dropped = path.join(PLUGINS_DIR, '10-answer.wasm')
    const ping = '{"type":"ping","id":7}'
    await state(page, 'Connected')
    await send(page, ping)
    await line(page, 'answer', /default to \S+$/)
    const id = await page.locator('#client-id').textContent()
    try {
      await copyFile(PLUGIN, dropped)
      await sendUntil(page, ping, /"type":"pong"/)
      await send(page, 'name')
      await line(page, 'answer', `Orville to ${id}`)
      await shoot(page, 'plugin')
    } finally {
      await rm(dropped)
    }
    await sendUntil(page, ping, /default to \S+$/)
    await push(page, 'the same connection all along')
    await line(page, 'push', 'the same connection all along')
    assert.equal(await page.locator('#client-id').textContent(), id)
    assert.deepEqual(problems, [])
    await close()
  }
}

await run(checks)
