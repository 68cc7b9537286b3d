// Calls the sandbox with Resend's official Node SDK, and prints what each call returned as JSON.
// The environment has RESEND_API_KEY and RESEND_BASE_URL, which the SDK reads.
import { createRequire } from 'node:module';
import { argv, stdout } from 'node:process';

const { Resend } = createRequire(argv[2])('resend');
const resend = new Resend();

const good = {
  from: 'Acme <news@acme.test>',
  to: 'ann@example.com',
  subject: 'Hello',
  html: '<p>Hi</p>',
};
const bad = { ...good, to: 'bad' };
const key = { idempotencyKey: 'k' };
const permissive = { batchValidation: 'permissive' };
const revoked = new Resend('re_revoked');

const calls = {
  single: () => resend.emails.send(good, key),
  'single again': () => resend.emails.send(good, key),
  batch: () => resend.batch.send([good, good], key),
  'batch again': () => resend.batch.send([good, good], key),
  'other payload': () => resend.batch.send([good], key),
  permissive: () => resend.batch.send([bad, good], permissive),
  strict: () => resend.batch.send([bad, good]),
  'no content': () => resend.emails.send({ ...good, html: undefined }),
  template: () => resend.emails.send({ to: good.to, template: { id: 'welcome' } }),
  'unknown key': () => revoked.emails.send(good),
  domains: () => resend.domains.list(),
  get: async () => resend.emails.get((await resend.emails.send(good)).data.id),
  'get nothing': () => resend.emails.get('00000000-0000-4000-a000-000000000000'),
  suppress: () => resend.suppressions.batch.add({ emails: ['ann@example.com'] }),
  suppressed: () => resend.suppressions.list({ origin: 'manual', limit: 10 }),
  release: () => resend.suppressions.remove('ann@example.com'),
};

const told = {};
for (const [name, call] of Object.entries(calls)) {
  const { data, error } = await call();
  told[name] = { data, error };
}
stdout.write(JSON.stringify(told));
