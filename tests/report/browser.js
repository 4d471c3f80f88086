// The browser that check.js opens pages in: the one that CHROMIUM names, else the headless Chromium that the locked npm
// package @sparticuz/chromium carries in itself (for x86-64), with its libraries and a font, so that a machine needs
// none of them; else whatever is installed.
"use strict";

const { execFileSync } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");
const zlib = require("node:zlib");

const NAMES = ["chromium", "chromium-browser", "google-chrome"];
const PACKAGE = path.join(__dirname, "node_modules/@sparticuz/chromium");

/// What playwright is to start: the program, and the variables it needs.
function browser() {
  if (process.env.CHROMIUM) return { executablePath: process.env.CHROMIUM, env: process.env };
  if (process.arch === "x64") return carried();
  const directories = (process.env.PATH || "").split(path.delimiter);
  const found = directories.flatMap((directory) => NAMES.map((name) => path.join(directory, name))).find(fs.existsSync);
  if (!found) throw new Error(`there is no Chromium for ${process.arch}: install one, or let CHROMIUM name it`);
  return { executablePath: found, env: process.env };
}

/// Unpacks the package's files, once for each version of it.
function carried() {
  const { version } = JSON.parse(fs.readFileSync(path.join(PACKAGE, "package.json"), "utf8"));
  const place = path.join(__dirname, `chromium-${version}`);
  if (!fs.existsSync(place)) {
    const half = fs.mkdtempSync(`${place}-`);
    for (const name of ["chromium", "al2023.tar", "fonts.tar"]) {
      const bytes = zlib.brotliDecompressSync(fs.readFileSync(path.join(PACKAGE, "bin", `${name}.br`)));
      fs.writeFileSync(path.join(half, name), bytes, { mode: 0o755 });
      if (name.endsWith(".tar")) execFileSync("tar", ["--no-same-owner", "-xf", name], { cwd: half });
    }
    const fonts = `<fontconfig><dir>${place}/fonts</dir><cachedir>${place}/fonts-cache</cachedir></fontconfig>\n`;
    fs.writeFileSync(path.join(half, "fonts.conf"), `<?xml version="1.0"?>\n${fonts}`);
    fs.renameSync(half, place);
  }
  const env = { ...process.env, LD_LIBRARY_PATH: path.join(place, "lib"), FONTCONFIG_PATH: place };
  return { executablePath: path.join(place, "chromium"), env };
}

module.exports = { browser };
