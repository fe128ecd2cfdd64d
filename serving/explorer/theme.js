// Light, dark, or as the system says.

const CHOICES = { "": ["◐", "automatic"], light: ["☀", "light"], dark: ["☾", "dark"] };

export function themeButton(element) {
  const show = () => {
    const theme = localStorage.getItem("explorer-theme") ?? "";
    document.documentElement.dataset.theme = theme;
    const [sign, name] = CHOICES[theme];
    element.textContent = sign;
    element.title = `Theme: ${name}`;
    element.setAttribute("aria-label", element.title);
    document.dispatchEvent(new Event("themechange"));
  };
  element.addEventListener("click", () => {
    const names = Object.keys(CHOICES);
    const next = names[(names.indexOf(localStorage.getItem("explorer-theme") ?? "") + 1) % names.length];
    localStorage.setItem("explorer-theme", next);
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
}
