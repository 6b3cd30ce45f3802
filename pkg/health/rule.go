package health

// EssentialWeight is the weight that makes an input of a score essential.
const EssentialWeight = 11
