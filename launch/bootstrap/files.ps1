# Prints for each file in $Files a line: no, or its content in base64.
$ErrorActionPreference = 'Stop'
foreach ($File in $Files) {
    if (Test-Path -LiteralPath $File -PathType Leaf) {
        [System.Convert]::ToBase64String([System.IO.File]::ReadAllBytes($File))
    } else {
        'no'
    }
}
