/** The claims of a JWT; none of what is no JWT. @internal */
export function claims(token: string | undefined): Record<string, unknown> & { exp?: number } {
  try {
    return JSON.parse(atob(token!.split('.')[1]!.replace(/-/g, '+').replace(/_/g, '/'))) || {}
  } catch {
    return {}
  }
}
