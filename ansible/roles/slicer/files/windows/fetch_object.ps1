#Requires -Version 5.1
# Fetches an object of S3 with the instance's own role and the AWS Tools that Amazon's images have, and keeps it
# only where it has the digest that was asked for.
[CmdletBinding()]
param(
    [Parameter(Mandatory = $true)][string] $Bucket,
    [Parameter(Mandatory = $true)][string] $Key,
    [Parameter(Mandatory = $true)][string] $Region,
    [Parameter(Mandatory = $true)][string] $Path,
    [Parameter(Mandatory = $true)][string] $Sha256
)

function Test-Digest {
    param([string] $File)
    (Test-Path -LiteralPath $File) -and (Get-FileHash -LiteralPath $File -Algorithm SHA256).Hash -eq $Sha256
}

if (Test-Digest -File $Path) {
    $Ansible.Changed = $false
    return
}
$New = "$Path.new"
Read-S3Object -BucketName $Bucket -Key $Key -File $New -Region $Region | Out-Null
if (-not (Test-Digest -File $New)) {
    $Hash = (Get-FileHash -LiteralPath $New -Algorithm SHA256).Hash.ToLowerInvariant()
    Remove-Item -LiteralPath $New -Force
    throw "s3://$Bucket/$Key has the sha256 $Hash, and not ${Sha256}: correct slicer_grid_sha256, or do not trust it"
}
Move-Item -LiteralPath $New -Destination $Path -Force
$Ansible.Changed = $true
