#Requires -Version 5.1
# Writes the list of the files that AppStream reads ahead before an application starts: one a line, sorted.
[CmdletBinding()]
param(
    [Parameter(Mandatory = $true)][string] $Manifest,
    [Parameter(Mandatory = $true)][string[]] $Folders
)

$Found = Get-ChildItem -LiteralPath $Folders -Recurse -File -ErrorAction Stop |
    Select-Object -ExpandProperty FullName |
    Sort-Object
if ($null -eq $Found) {
    throw "no file lies below $($Folders -join ', '): correct appstream_prewarm"
}
$Old = if (Test-Path -LiteralPath $Manifest) { Get-Content -LiteralPath $Manifest -Encoding UTF8 }
$Ansible.Changed = ($Old -join "`n") -cne ($Found -join "`n")
if ($Ansible.Changed) {
    # Set-Content of Windows PowerShell would put a mark of the encoding in front.
    [System.IO.File]::WriteAllLines($Manifest, [string[]] $Found)
}
