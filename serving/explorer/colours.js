// Which colour a point of the map has: by the most frequent values of a field, or by fifths of its numbers.

const MOST = 8;
const OTHER = "Other",
  MISSING = "No value";
// Okabe and Ito's colours, which also those tell apart who see fewer; and five steps like
// viridis, whose darkest one is too dark for a dark page.
const VALUES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#a6a319", "#8560c9"];
const NUMBERS = ["#8b5fbf", "#3b6fa0", "#21918c", "#5ec962", "#d8b400"];
const REST = { [OTHER]: "#868b93", [MISSING]: "#b8bec7" };

// values: of each point, or null. Returns groups [{name, colour, points}] with the places of their points.
export function groups(values, count) {
  if (!values) return [{ name: "Items", colour: VALUES[0], points: [...Array(count).keys()] }];
  const numbers = asNumbers(values);
  if (numbers) values = numbers;
  const { names, colours, of } = numbers ? byNumber(numbers) : byValue(values);
  const found = new Map(
    [...names, OTHER, MISSING].map((name, place) => [name, { name, colour: colours[place] ?? REST[name], points: [] }]),
  );
  values.forEach((value, place) => found.get(of(value)).points.push(place));
  return [...found.values()].filter((group) => group.points.length);
}

// Numbers and nulls; null for values that are no numbers, or few. A year may be kept as text, and is a number yet.
function asNumbers(values) {
  if (values.some((value) => typeof value === "number")) return values;
  const there = values.filter((value) => value !== null && value !== "");
  if (
    there.some((value) => typeof value !== "string" || !Number.isFinite(Number(value))) ||
    new Set(there).size <= MOST
  )
    return null;
  return values.map((value) => (value === null || value === "" ? null : Number(value)));
}

function byValue(values) {
  const counts = new Map();
  for (const value of values) for (const each of several(value)) counts.set(each, (counts.get(each) ?? 0) + 1);
  const names = [...counts]
    .sort((a, b) => b[1] - a[1])
    .slice(0, MOST)
    .map(([name]) => name);
  // Of several values the rarest shown one says most.
  const rank = new Map(names.map((name, place) => [name, place]));
  const of = (value) => {
    const shown = several(value)
      .filter((each) => rank.has(each))
      .sort((a, b) => rank.get(b) - rank.get(a));
    return shown[0] ?? (several(value).length ? OTHER : MISSING);
  };
  return { names, colours: VALUES.slice(0, names.length), of };
}

function several(value) {
  return (Array.isArray(value) ? value : [value]).filter((each) => each !== null && each !== "");
}

function byNumber(values) {
  const sorted = values.filter((value) => value !== null).sort((a, b) => a - b);
  const steps = [...new Set([0, 0.2, 0.4, 0.6, 0.8].map((share) => sorted[Math.floor(share * sorted.length)]))];
  const text = (value) => String(Math.round(value * 100) / 100);
  const names = steps.map((low, place) => {
    const last = place === steps.length - 1;
    return last ? `from ${text(low)}` : `${text(low)} to below ${text(steps[place + 1])}`;
  });
  const of = (value) => (value === null ? MISSING : names[steps.findLastIndex((low) => value >= low)]);
  return { names, colours: NUMBERS.slice(-names.length), of };
}
