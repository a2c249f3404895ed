import react from '@vitejs/plugin-react';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';

/** The service that `npm run dev` and `vite preview` pass requests on to. */
const service = process.env.REALCUSTOM_URL ?? 'http://127.0.0.1:8000';
const proxy = { '/v1': service, '/readyz': service, '/healthz': service, '/openapi.json': service };

/** Puts `early.ts` before all else, as a classic script: those of modules wait for the style sheets. */
const earlyScript: Plugin = {
  name: 'early-script',
  transformIndexHtml: {
    order: 'post',
    handler: (_, { bundle }) => {
      const built = Object.values(bundle ?? {}).find((file) => file.type === 'chunk' && file.name === 'early');
      if (!built) return []; // While it is developed, the studio's own code asks.
      return [{ tag: 'script', attrs: { src: `/studio/${built.fileName}` }, injectTo: 'head-prepend' }];
    },
  },
};

export default defineConfig({
  base: '/studio/',
  plugins: [react(), earlyScript],
  build: {
    target: 'es2022',
    // Those that know light-dark(): it is not to be written in another way.
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
    // A data: URL would need another source in the Content-Security-Policy.
    assetsInlineLimit: 0,
    // The helper script of module preloading is inline in some browsers; every current one preloads modules itself.
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
    chunkSizeWarningLimit: 750,
    rolldownOptions: {
      input: { index: 'index.html', early: 'src/early.ts' },
      output: {
        // One file for all that the first screen needs: every request costs a round trip.
        codeSplitting: { groups: [{ name: 'studio', tags: ['$initial'], test: (id) => !id.endsWith('/early.ts') }] },
      },
    },
  },
  server: { proxy },
  preview: { proxy },
  test: { include: ['tests/**/*.test.ts'], environment: 'node' },
});
