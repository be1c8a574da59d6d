import { createHmac, timingSafeEqual } from "node:crypto";

/** Throws unless the message is signed with the secret and recent. `body` is what was received, byte by byte. */
export function verify(secret: string, headers: Record<string, string>, body: Buffer, toleranceS = 300): void {
  const id = headers["webhook-id"], sentAt = headers["webhook-timestamp"];
  if (!(Math.abs(Date.now() / 1000 - Number(sentAt)) <= toleranceS)) throw new Error("too old, or from the future");
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  const expected = createHmac("sha256", key).update(`${id}.${sentAt}.`).update(body).digest();
  // Several while a secret is being rotated.
  const signed = headers["webhook-signature"].split(" ").some((signature) => {
    const given = Buffer.from(signature.replace(/^v1,/, ""), "base64");
    return signature.startsWith("v1,") && given.length === expected.length && timingSafeEqual(given, expected);
  });
  if (!signed) throw new Error("not signed with this secret");
}
