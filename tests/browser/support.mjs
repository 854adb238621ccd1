// What the checks of the examples in a real browser have in common. Each is run as
//
//   node EXAMPLE.mjs PAGE [SCREENSHOTS]     PAGE is the address that examples/run prints; SCREENSHOTS is a folder
//
// CHROMIUM names another browser than Debian's. With PLUGIN, the file of the example's plugin, and PLUGINS_DIR, the
// folder that the gateway watches, the plugin is dropped in and taken out again, too. A check ends with an error at the
// first thing that is not as it should be.

import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { chromium } from 'playwright-core'

export const [page_address, screenshots] = process.argv.slice(2)
export const { PLUGIN, PLUGINS_DIR } = process.env
assert(page_address, 'usage: node EXAMPLE.mjs PAGE [SCREENSHOTS]')

// Nothing but the page may reach out. Playwright gives each launch a fresh profile of its own.
const flags = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
]

/** Opens the page in a window of its own, which `before` may prepare, and collects what goes wrong in its scripts. */
export async function open(browser, { address = page_address, before, viewport = { width: 1100, height: 760 } } = {}) {
  const context = await browser.newContext({ viewport })
  context.setDefaultTimeout(10_000)
  const page = await context.newPage()
  const problems = []
  page.on('pageerror', (error) => problems.push(error.message))
  await before?.(page)
  await page.goto(address)
  return { page, problems, close: () => context.close() }
}

/** The address of the page, made to look for the gateway elsewhere. */
export function with_gateway(gateway) {
  const address = new URL(page_address)
  address.searchParams.set('gateway', gateway)
  return address.href
}

/** Waits until the page says something about its state. */
export const state = (page, words) => page.getByRole('status').filter({ hasText: words }).first().waitFor()

export async function assert_fits(page) {
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
  assert(overflow <= 0, `${overflow} pixels too wide`)
}

export async function shoot(page, name) {
  if (screenshots) await page.screenshot({ path: path.join(screenshots, `${name}.png`), fullPage: true })
}

/** Runs the checks, which are functions of a browser by what they show, one after the other. */
export async function run(checks) {
  if (screenshots) await mkdir(screenshots, { recursive: true })
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: flags,
  })
  try {
    for (const [name, check] of Object.entries(checks)) {
      await check(browser).catch((error) => {
        console.error(`FAIL  ${name}`)
        throw error
      })
      console.log(`ok    ${name}`)
    }
  } finally {
    await browser.close()
  }
}
