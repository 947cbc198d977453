"""
Hold what requirements/*.txt pin against the advisories that are published for Python packages.

`make audit` runs this. It asks the package index over the network, one question a package, and
ends with code 1 where a vulnerability is known, and where nobody could be asked: pip-audit by
itself then says that nothing was found.
"""

import json
from pathlib import Path
import subprocess
import sys

FILES = sorted((Path(__file__).parents[1] / 'requirements').glob('*.txt'))
UNASKED = (
    'the advisory database cannot be reached, so nothing was audited: connect this machine to '
    'the network (or set its proxy in HTTPS_PROXY) and run make audit again'
)


def verdict(told: str) -> tuple[str, bool]:
    """Put what pip-audit told (JSON) into words; True where all that could be asked is well."""
    try:
        packages = json.loads(told)['dependencies']
    except ValueError:
        return UNASKED, False
    skipped = [one['name'] for one in packages if 'skip_reason' in one]
    if len(skipped) == len(packages):
        return UNASKED, False
    lines = [
        f'{one["name"]} {one["version"]}: {found["id"]}, mended in '
        f'{", ".join(found["fix_versions"]) or "no version yet"}'
        for one in packages
        for found in one.get('vulns', ())
    ]
    well = not lines
    lines.append(f'{len(packages) - len(skipped)} packages audited, {len(lines)} vulnerabilities')
    if skipped:
        lines.append(f'{len(skipped)} are not known there: {", ".join(skipped)}')
    return '\n'.join(lines), well


def main() -> int:
    """Ask, tell, and return the exit code."""
    command = [sys.executable, '-m', 'pip_audit', '--disable-pip', '--no-deps', '--format', 'json']
    command += ['--progress-spinner', 'off']
    for file in FILES:
        command += ['--requirement', str(file)]
    told = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    words, well = verdict(told.stdout)
    sys.stdout.write(f'{words}\n')
    return not well


if __name__ == '__main__':
    sys.exit(main())
