/** When a JWT ends, in ms of the server's clock; NaN when it does not say, or is none. @internal */
export function expiry(token: string): number {
  try {
    return JSON.parse(atob(token.split('.')[1]!.replace(/-/g, '+').replace(/_/g, '/'))).exp * 1000
  } catch {
    return NaN
  }
}
