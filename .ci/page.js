// page.js MODULES: drives the page in a real browser. Takes from the environment BASE (http://HOST:PORT), NODE (the
// same of a node), KEY, and runs KILL and REVIVE as shell commands. Every complaint of the browser is an error.
'use strict';
const {chromium} = require(process.argv[2] + '/playwright-core');
const {execSync} = require('child_process');
const fs = require('fs'), assert = require('assert'), path = require('path');
const {BASE, NODE, KEY, KILL, REVIVE} = process.env;
const evil = '<img src=x onerror=alert(1)>.txt';

(async () => {
  const browser = await chromium.launch({executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync']});
  const complaints = [];
  const open = async (base, options) => {
    const context = await browser.newContext(Object.assign({acceptDownloads: true}, options));
    const page = await context.newPage();
    page.setDefaultTimeout(60000);
    page.on('console', m => { if (['error', 'warning'].includes(m.type())) complaints.push(m.text()); });
    page.on('pageerror', e => complaints.push(String(e)));
    page.on('dialog', d => { complaints.push('a dialog: ' + d.message()); d.dismiss(); });
    page.on('request', r => {
      if (!r.url().startsWith(base) && !/^(data|blob):/.test(r.url())) complaints.push(r.url());
    });
    await page.goto(base + '/');
    return page;
  };
  const login = async page => {
    await page.fill('#askvalue', KEY);
    await page.click('#askyes');
    await page.waitForSelector('#state.healthy');
  };
  // Not the key, then the key
  let page = await open(BASE);
  await page.fill('#askvalue', '0'.repeat(64));
  await page.click('#askyes');
  await page.waitForFunction(() => document.getElementById('askwhy').textContent.includes('not the key'));
  assert(complaints.every(c => /40[13]/.test(c)), complaints.join('\n')); // the browser notes each refusal
  complaints.length = 0;
  await login(page);
  await page.waitForSelector('#empty:not([hidden])');
  await page.waitForFunction(() => document.querySelectorAll('.node.up').length === 3);

  // Uploads: by the file chooser, several, with bars; by drag and drop; a name that is markup
  fs.writeFileSync('one.txt', 'one\n');
  fs.writeFileSync('large.bin', Buffer.alloc(30000000, 'x7'));
  fs.writeFileSync(evil, 'harmless\n');
  await page.evaluate(() => {
    window.bars = 0;
    new MutationObserver(() => { window.bars += document.querySelectorAll('#uploads progress').length; })
      .observe(document.getElementById('uploads'), {childList: true, subtree: true, attributes: true});
  });
  const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.click('#add')]);
  await chooser.setFiles(['one.txt', 'large.bin', evil]);
  for (const name of ['one.txt', 'large.bin', evil]) await page.getByRole('button', {name, exact: true}).waitFor();
  await page.waitForFunction(() => document.querySelectorAll('#uploads .job').length === 0);
  assert(await page.evaluate(() => window.bars) > 0, 'no bar was seen');
  const data = await page.evaluateHandle(() => {
    const t = new DataTransfer();
    t.items.add(new File(['dropped'], 'dropped.txt'));
    return t;
  });
  await page.dispatchEvent('body', 'drop', {dataTransfer: data});
  await page.getByRole('button', {name: 'dropped.txt', exact: true}).waitFor();

  // Details with replicas and a map of chunks
  await page.getByRole('button', {name: 'large.bin', exact: true}).click();
  await page.waitForFunction(() => /n1, n2, n3/.test(document.getElementById('detail').textContent));
  assert.equal(await page.locator('#detail .dot.has').count(), 2 * Math.ceil(30000000 / 4194304));
  assert(/[0-9a-f]{64}/.test(await page.textContent('#detail')));
  const [download] = await Promise.all([page.waitForEvent('download'),
    page.getByText('Download', {exact: true}).click()]);
  assert(fs.readFileSync(await download.path()).equals(fs.readFileSync('large.bin')));
  await page.getByRole('button', {name: evil, exact: true}).click();
  await page.waitForFunction(n => document.querySelector('#detail h2').textContent === n, evil);

  // A link: opened by somebody who has no key, copied, ended
  await page.getByRole('button', {name: 'one.txt', exact: true}).click();
  await page.waitForFunction(() => document.querySelector('#detail h2').textContent === 'one.txt');
  await page.getByRole('button', {name: 'Share', exact: true}).click();
  await page.fill('#askvalue', '2h');
  await page.click('#askyes');
  const link = await page.locator('.share input').inputValue();
  assert(/^http:.*\/download\/[0-9a-f]{32}$/.test(link), link);
  assert(/until /.test(await page.textContent('.share')));
  const stranger = await browser.newContext(), look = await stranger.newPage();
  for (const base of [BASE, NODE]) {
    const answer = await look.goto(link.replace(BASE, base));
    assert.equal(answer.status(), 200);
    assert.equal(await look.textContent('body'), 'one\n');
    assert.equal((await stranger.request.get(base + '/files/one.txt')).status(), 401);
  }
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await page.getByRole('button', {name: 'Copy', exact: true}).click();
  await page.waitForFunction(() => document.getElementById('toast').textContent === 'Copied');
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), link);
  await page.getByRole('button', {name: 'End', exact: true}).click();
  await page.waitForFunction(() => !document.querySelector('.share'));
  assert.equal((await stranger.request.get(link)).status(), 404);
  await stranger.close();

  // New folder, rename, search, delete, undo
  await page.click('#mkdir');
  await page.fill('#askvalue', 'folder');
  await page.click('#askyes');
  await page.getByRole('button', {name: 'folder/', exact: true}).waitFor();
  await page.getByRole('button', {name: 'Rename', exact: true}).click();
  await page.fill('#askvalue', '/folder/uno.txt');
  await page.click('#askyes');
  await page.waitForFunction(() => ![...document.querySelectorAll('#list .link')]
    .some(b => b.textContent === 'one.txt'));
  await page.fill('#search', 'uno');
  await page.getByRole('button', {name: '/folder/uno.txt', exact: true}).waitFor();
  await page.fill('#search', '');
  await page.getByRole('button', {name: 'folder/', exact: true}).click();
  await page.getByRole('button', {name: 'uno.txt', exact: true}).click();
  await page.getByRole('button', {name: 'Delete', exact: true}).click();
  await page.waitForSelector('#empty:not([hidden])');
  await page.getByRole('button', {name: 'Undo', exact: true}).click();
  await page.getByRole('button', {name: 'uno.txt', exact: true}).waitFor();
  await page.goBack();
  await page.getByRole('button', {name: 'dropped.txt', exact: true}).waitFor();

  // What others do is seen without a reload
  const other = await open(NODE);
  await login(other);
  await other.click('#mkdir');
  await other.fill('#askvalue', 'from a node');
  await other.click('#askyes');
  await page.getByRole('button', {name: 'from a node/', exact: true}).waitFor();
  complaints.splice(0, complaints.length, ...complaints.filter(c => !/401/.test(c)));

  // Cards say when a node was started
  assert(/first start .*20\d\d.*, last start .*20\d\d/.test(await page.textContent('.node.up')));

  // A node dies: its card says so, the repair is seen, and the clock; it comes back
  execSync(KILL, {shell: '/bin/bash', stdio: 'inherit'});
  await page.waitForSelector('.node.down');
  await page.waitForFunction(() => /whole again after [0-9.]+ s: .*copied [1-9]/
    .test(document.getElementById('events').textContent));
  await page.screenshot({path: 'light.png'});
  execSync(REVIVE, {shell: '/bin/bash', stdio: 'inherit'});
  await page.waitForFunction(() => document.querySelectorAll('.node.up').length === 3);
  await page.waitForSelector('#state.healthy');

  // Dark, and narrow as on a phone
  const phone = await open(BASE, {colorScheme: 'dark', viewport: {width: 380, height: 760}});
  await login(phone);
  await phone.getByRole('button', {name: 'large.bin', exact: true}).click();
  await phone.waitForFunction(() => /n1, n2, n3/.test(document.getElementById('detail').textContent));
  assert(await phone.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'wider than the screen');
  await phone.screenshot({path: 'dark.png', fullPage: true});
  complaints.splice(0, complaints.length, ...complaints.filter(c => !/401/.test(c)));
  assert.deepEqual(complaints, []);
  await browser.close();
  console.log('the page works');
})().catch(error => { console.error(error); process.exit(1); });
