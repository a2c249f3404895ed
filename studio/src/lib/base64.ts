/** Bytes as base64, as the service takes and gives pictures in JSON. */
export function base64ToBlob(encoded: string, type = 'image/png'): Blob {
  return new Blob([Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0))], { type });
}

export async function blobToBase64(blob: Blob): Promise<string> {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let text = '';
  // As many arguments as every browser takes.
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}
